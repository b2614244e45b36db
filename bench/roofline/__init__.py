"""The model of the floor: the least bytes, FLOPs and time of a training step at each level of fusion."""
