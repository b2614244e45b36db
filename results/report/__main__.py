"""Runs the command; see `results.report.command`."""

import sys

from results.report.command import main

if __name__ == "__main__":
    sys.exit(main())
