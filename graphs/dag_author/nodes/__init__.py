"""The nodes of the graph, one module each. All but `receive` are imported when they first run."""
