"""Checks of images, sounds and videos before the engine sees them."""
