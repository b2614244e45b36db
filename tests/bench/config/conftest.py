"""What several modules of this folder start commands with."""

import sys
from pathlib import Path

import pytest
from small_commands import BODIES, ROOT

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture
def made_up(tmp_path: Path) -> dict[str, str]:
    """Variables for a line of bash that runs a command of BODIES: `$PYTHON -c "$CODE" $DONE NAME on|off`."""
    return {"CODE": BODIES, "DONE": str(tmp_path / "done"), "PYTHONPATH": str(ROOT)}
