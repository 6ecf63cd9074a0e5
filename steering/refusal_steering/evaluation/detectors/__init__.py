"""Training and measurement of the refusal detectors on answers that people have labelled."""
