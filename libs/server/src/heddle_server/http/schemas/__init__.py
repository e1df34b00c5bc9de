"""Wire models: what clients send."""
