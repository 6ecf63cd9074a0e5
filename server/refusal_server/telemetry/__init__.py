"""What is measured and remembered: metrics, logs, traces, recent requests, the audit log."""
