"""The span of a request, and what leads from a metric to it."""
