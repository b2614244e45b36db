"""The whole history of each cell in time, with the points at which it changed; never a verdict."""
