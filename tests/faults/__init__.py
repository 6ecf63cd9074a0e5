"""Bad inputs and faults, against the same real server as ``tests/server``."""
