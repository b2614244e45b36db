"""Where images come from: what is on disk, as labelled files or arrays."""
