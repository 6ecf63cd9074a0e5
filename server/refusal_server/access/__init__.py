"""Who may call: API keys, their budgets, and denied attempts."""
