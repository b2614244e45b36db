"""Runs the command; see `results.report.terminal`."""

import sys

from results.report.terminal import main

if __name__ == "__main__":
    sys.exit(main())
