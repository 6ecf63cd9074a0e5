"""What the server does with a client's bytes, and how long it waits for them."""
