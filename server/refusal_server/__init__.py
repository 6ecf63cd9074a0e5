"""An OpenAI-compatible chat server over vLLM that steers the model towards refusal."""

from refusal_steering import __version__

__all__ = ["__version__"]
