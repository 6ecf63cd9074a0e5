"""The HTTP routes; no route imports another."""
