"""What `auto` does: time the candidates of each layer on the GPU at hand, and choose."""
