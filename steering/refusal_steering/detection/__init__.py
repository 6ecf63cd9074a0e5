"""Refusal detectors, alike for server and tools, and the errors they are known to make."""
