"""What the operator does: the same arithmetic in several forms, held to each other by tests."""
