"""One policy for a fleet: asked for by HTTP, taken over as a changed file is, kept as a copy."""
