"""Refusal detectors, their error rates, and the training of the learned one."""
