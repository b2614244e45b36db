"""Runs the command; see `bench.step.command`."""

import sys

from bench.step.command import main

if __name__ == "__main__":
    sys.exit(main())
