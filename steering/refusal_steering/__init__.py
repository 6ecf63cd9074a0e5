"""Refusal steering: make a served model refuse harmful requests from the inside."""

__version__ = "0.1.0"
