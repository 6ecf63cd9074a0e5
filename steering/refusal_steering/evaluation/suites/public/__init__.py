"""Public data sets that are known by name: where their files are and how to read their rows."""
