"""One request, one way: the only package that knows HTTP."""
