"""One module per resource. A route parses, calls one use case and shapes the answer."""
