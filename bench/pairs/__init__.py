"""Interleaved pairs of runs: two checkouts or two configurations in turn, until it is settled which is faster."""
