"""The kernels one by one, beside PyTorch, at the layers of a network."""
