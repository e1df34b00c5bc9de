"""The rules of an agent server, with no I/O: values, ports, use cases and the run engine."""
