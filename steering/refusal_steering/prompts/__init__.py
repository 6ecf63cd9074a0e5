"""Prompts for calibration: the contrast set, its templates and attack forms, users' files."""
