"""The LangGraph edge: loads graphs, runs them, reads and writes their state."""
