"""Runs the command; see `results.query.command`."""

import sys

from results.query.command import main

if __name__ == "__main__":
    sys.exit(main())
