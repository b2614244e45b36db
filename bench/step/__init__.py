"""The whole training step, timed for each way of computing it, in turn."""
