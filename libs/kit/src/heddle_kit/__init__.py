"""A toolbox for graph authors; it knows nothing of the server."""
