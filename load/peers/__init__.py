"""What others serve: the same model behind FastAPI, in an environment of its own."""
