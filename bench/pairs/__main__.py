"""Runs the command; see `bench.pairs.command`."""

import sys

from bench.pairs.command import main

if __name__ == "__main__":
    sys.exit(main())
