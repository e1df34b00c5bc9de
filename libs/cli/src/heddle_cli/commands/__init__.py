"""One module per command: `arguments(parser)` declares its flags, `run(options)` does it and returns the exit code."""
