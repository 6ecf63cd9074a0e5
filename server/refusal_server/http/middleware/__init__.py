"""Pure ASGI middlewares; each is one concern and knows nothing of vLLM."""
