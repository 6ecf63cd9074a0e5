"""Refusal detectors of server and tools, and their known errors."""
