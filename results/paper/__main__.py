"""Runs the command; see `results.paper.command`."""

import sys

from results.paper.command import main

if __name__ == "__main__":
    sys.exit(main())
