"""Attacks on a running server: `make attack`, `make soak`, and a short form of both."""
