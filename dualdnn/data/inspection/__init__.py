"""A look at a log before anything learns from it: what is in it, what moves, what leaks."""
