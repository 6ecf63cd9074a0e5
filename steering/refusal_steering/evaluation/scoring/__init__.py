"""From answers to scores: detectors, judges, rates and intervals."""
