"""The prompt gate of a build: what it reads, and the push that it opens."""
