"""The gate of a bundle: what it reads of a whole prompt, and what is reported of it."""
