"""LISTEN and NOTIFY: hints between processes."""
