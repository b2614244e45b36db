"""Compiles every kernel for every chip without a GPU, and writes down what each takes of its chip."""
