"""The prompt gate of a build through the engine: what it is taught, its rows, its bundle."""
