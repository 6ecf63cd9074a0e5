"""Steering the residual stream on the device: buffers, the operator, and who gets which row."""
