"""The audit log: who was steered, refused or changed something, without what was said."""
