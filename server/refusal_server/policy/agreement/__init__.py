"""How several API processes have one policy: one leads, the others follow before it counts."""
