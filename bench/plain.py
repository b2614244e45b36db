"""Where the command `bench.plain` was."""

import sys

if __name__ == "__main__":
    print("bench.plain: is now bench.peers.plain: python -m bench.peers.plain", *sys.argv[1:], file=sys.stderr)
    sys.exit(2)
