"""Runs the command; see `results.history.command`."""

import sys

from results.history.command import main

if __name__ == "__main__":
    sys.exit(main())
