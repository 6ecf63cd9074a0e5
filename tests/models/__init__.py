"""Models that the tests make for themselves."""
