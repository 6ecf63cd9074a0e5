"""Operators' files: YAML with strict errors, and a watcher of changes."""
