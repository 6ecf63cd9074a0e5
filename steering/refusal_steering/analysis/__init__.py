"""What calibration rows show: dissolution, shrinkage, separability, scores of layers."""
