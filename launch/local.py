"""Run configurations on this machine: python launch/local.py depth=20 dataset=digits (--help lists every key)."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout, in place of launch/

from results.loading import end_at_interrupt  # noqa: E402

end_at_interrupt()
try:
    from launch.cli import main
except ModuleNotFoundError as error:
    sys.exit(
        f"launch: {error.name} is not installed for {sys.executable}: make setup, then .venv/bin/python {sys.argv[0]}"
    )

sys.exit(main("local", sys.argv[1:]))
