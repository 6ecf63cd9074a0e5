"""What a model is asked with beside steering: a system prompt, Self-Reminder, ECSO."""
