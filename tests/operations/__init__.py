"""What operators do to a running server, on a real engine of two ranks."""
