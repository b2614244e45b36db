"""Training state on disk: complete or absent, checked before it is used, written by one run at a time."""
