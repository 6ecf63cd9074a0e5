"""A request's risk before its answer begins: RAS's risk pass and the cascade."""
