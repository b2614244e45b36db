"""Runs the command; see `results.plot.command`."""

import sys

try:
    from results.plot.command import main
except OSError as error:  # matplotlib needs a folder that it can write to, and names the variable that gives it one
    sys.exit(f"results.plot: {error}")

if __name__ == "__main__":
    sys.exit(main())
