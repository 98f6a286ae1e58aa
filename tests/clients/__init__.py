"""Real clients of the protocols, each in an environment of its own, against a live server: `make test-clients`."""
