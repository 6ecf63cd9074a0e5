"""How this server bears load, against stock vLLM: ``python -m tests.bench.load``."""
