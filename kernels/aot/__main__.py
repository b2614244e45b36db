"""Runs the command; see `kernels.aot.command`."""

import sys

from kernels.aot.command import main

if __name__ == "__main__":
    sys.exit(main())
