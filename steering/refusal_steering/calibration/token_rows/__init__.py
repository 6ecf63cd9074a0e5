"""Residual rows of every counted prompt token, for probes that read the whole prompt."""
