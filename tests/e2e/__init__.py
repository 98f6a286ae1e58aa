"""The image, built and run for real; `make test-container` names the module, nothing else collects it."""
