"""Runs the command; see `results.compare.command`."""

import sys

from results.compare.command import main

if __name__ == "__main__":
    sys.exit(main())
