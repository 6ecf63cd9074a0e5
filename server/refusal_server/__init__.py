"""An OpenAI-compatible chat server over vLLM that steers the model towards refusal."""

__version__ = "0.1.0"
