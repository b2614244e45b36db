"""Runs the command; see `results.check.command`."""

import sys

from results.check.command import main

if __name__ == "__main__":
    sys.exit(main())
