"""Runs as they are listed: which, in which order, with which settings beside their figures, for people and programs."""
