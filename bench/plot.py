"""Where the command `bench.plot` was."""

import shlex
import sys

if __name__ == "__main__":
    words = " ".join(shlex.join(sys.argv[1:]).split())
    print(f"bench.plot: is now results.plot: python -m results.plot {words}", file=sys.stderr)
    sys.exit(2)
