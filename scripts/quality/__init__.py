"""How good the answers were, from what the log says of them and of what turned out."""
