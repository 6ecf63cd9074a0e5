"""Strategies that blend the logits of an answer: `ras`, and `cascade`, which saves its passes."""
