"""Directions of an open gate, refined by gradients in transformers."""
