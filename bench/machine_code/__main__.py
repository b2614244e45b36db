"""Runs the command; see `bench.machine_code.command`."""

import sys

from bench.machine_code.command import main

if __name__ == "__main__":
    sys.exit(main())
