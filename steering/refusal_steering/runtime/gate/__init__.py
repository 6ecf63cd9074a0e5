"""Reading whole prompts on the device: probes, their values beside the cache, and the pooling."""
