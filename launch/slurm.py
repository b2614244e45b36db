"""Submit configurations to Slurm: python launch/slurm.py depth=152 nodes=8 (--help lists every key)."""

import sys
from pathlib import Path

# The checkout, in place of launch/; spelled out here, since nothing of ours can be imported before it.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

try:
    from results.interrupt import end_quietly

    end_quietly()
    from launch.cli import main
except ModuleNotFoundError as error:
    sys.exit(
        f"launch: {error.name} is not installed for {sys.executable}: make setup, then .venv/bin/python {sys.argv[0]}"
    )

sys.exit(main("slurm", sys.argv[1:]))
