"""What the API processes of one server have in common: one small database, which ends with it."""
