"""What a chat's body is made into before anything is decided about it."""
