"""What several modules of this folder start commands with."""

from pathlib import Path

import pytest
from small_commands import BODIES, ROOT


@pytest.fixture
def made_up(tmp_path: Path) -> dict[str, str]:
    """Variables for a line of bash that runs a command of BODIES: `$PYTHON -c "$CODE" $DONE NAME on|off`."""
    return {"CODE": BODIES, "DONE": str(tmp_path / "done"), "PYTHONPATH": str(ROOT)}
