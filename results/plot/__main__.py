"""Runs the command; see `results.plot.command`."""

import sys

from results.plot.command import main

if __name__ == "__main__":
    sys.exit(main())
