"""Whether a request is refused in the model's place, where its form leaves no room to refuse."""
