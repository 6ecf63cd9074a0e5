"""Policies: the file, its loader, the set in force, its store, leases and history."""
