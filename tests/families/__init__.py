"""Every model family that steering is for, as a tiny checkpoint that is built, served and asked."""
