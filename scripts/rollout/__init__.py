"""Rolls a revision out step by step, judged by errors, latency and what the model answers."""
