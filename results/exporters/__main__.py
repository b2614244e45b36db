"""Runs the command; see `results.exporters.command`."""

import sys

from results.exporters.command import main

if __name__ == "__main__":
    sys.exit(main())
