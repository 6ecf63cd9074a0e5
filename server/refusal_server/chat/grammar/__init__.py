"""How much grammars may weigh, and how many may be compiled at a time."""
