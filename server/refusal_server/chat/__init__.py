"""A chat request from its body to its answer."""
