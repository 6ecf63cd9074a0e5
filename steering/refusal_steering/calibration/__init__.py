"""Calibration: from a contrast set and a model to steering bundles. Offline, never in a server."""
