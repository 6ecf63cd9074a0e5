"""Several API processes before one engine: who starts them, what each is, what they share."""
