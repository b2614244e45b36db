"""Runs the command; see `bench.micro.command`."""

import sys

from bench.micro.command import main

if __name__ == "__main__":
    sys.exit(main())
