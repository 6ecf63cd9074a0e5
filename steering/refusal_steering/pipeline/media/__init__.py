"""A build through the engine that serves: text and media, stage by stage, each kept on disk."""
