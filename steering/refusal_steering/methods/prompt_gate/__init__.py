"""The prompt gate: token probes, trained on whole prompts, and the threshold that opens it."""
