"""What the model is: its contract, its artifact, its answers. Knows no HTTP, no metrics, no environment."""
