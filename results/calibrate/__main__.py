"""Runs the command; see `results.calibrate.command`."""

import sys

from results.calibrate.command import main

if __name__ == "__main__":
    sys.exit(main())
