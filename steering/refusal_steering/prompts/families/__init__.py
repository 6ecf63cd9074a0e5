"""Families of wording: ways to put a request into a conversation, for the prompt gate."""
