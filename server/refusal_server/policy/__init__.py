"""Policies: the file, the set in force, its store, history and source."""
