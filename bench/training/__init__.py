"""One training run on one rank: the loop, its engines, its ranks, and what it leaves."""
