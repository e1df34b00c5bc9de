"""What the core asks of the world, as small protocols. Every implementation passes its contract suite."""
