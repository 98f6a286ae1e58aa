"""MLServer's own settings, and the model it serves."""
