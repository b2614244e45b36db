"""Where the command `bench.plain` was."""

import shlex
import sys

if __name__ == "__main__":
    words = " ".join(shlex.join(sys.argv[1:]).split())
    print(f"bench.plain: is now bench.peers.plain: python -m bench.peers.plain {words}", file=sys.stderr)
    sys.exit(2)
