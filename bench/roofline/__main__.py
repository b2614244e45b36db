"""Runs the command; see `bench.roofline.command`."""

import sys

from bench.roofline.command import main

if __name__ == "__main__":
    sys.exit(main())
