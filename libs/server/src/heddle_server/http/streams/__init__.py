"""The ways to show an event log."""
