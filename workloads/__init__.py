"""The request: traces, synthetic profiles and arrival modes that produce it."""
