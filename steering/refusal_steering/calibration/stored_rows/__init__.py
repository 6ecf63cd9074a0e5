"""Residual rows on disk, read one layer at a time: activation files, and folders of batches."""
