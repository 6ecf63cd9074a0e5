"""Vectors and adapters that other tools have made, read safely and turned into bundles."""
