"""Where `bench.plot` was; the command is `results.plot` now."""

import sys

if __name__ == "__main__":
    print("bench.plot: is results.plot now; the same words: python -m results.plot", *sys.argv[1:], file=sys.stderr)
    sys.exit(2)
