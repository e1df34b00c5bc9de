"""Ports in memory: one process, nothing to install."""
