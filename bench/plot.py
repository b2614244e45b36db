"""Where the command `bench.plot` was."""

import sys

if __name__ == "__main__":
    print("bench.plot: is now results.plot: python -m results.plot", *sys.argv[1:], file=sys.stderr)
    sys.exit(2)
