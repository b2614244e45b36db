"""A model of a training step from the machine code of its kernels: nothing is timed, and no GPU is needed."""
