"""The published methods and ours, each as a fit on residual rows."""
