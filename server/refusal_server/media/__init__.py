"""Checks of images, audio and videos before the engine sees them."""
