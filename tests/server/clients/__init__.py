"""What ordinary clients send and expect, by kind: many members of each."""
