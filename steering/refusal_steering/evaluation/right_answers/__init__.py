"""Whether an answer is the right one: choices, short answers, and shares of them."""
