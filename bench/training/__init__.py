"""One run on one rank: what it holds, and what it goes on from."""
