"""Bundles of a build: their canaries, and how they are kept and saved."""
