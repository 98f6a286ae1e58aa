"""What takes long: run by hand or by `make soak`."""
