"""What is installed is what is here: every module, and the YAML and tables that they read."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bench", "kernels", "launch", "resnet", "results")


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_what_they_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns("__pycache__", "v1", "record")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=skipped)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    words = ["-m", "pip", "wheel", "-q", ".", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("resnet_bench-")}
    here = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for pattern in ("*.py", "*.yaml", "*.csv", "*.html", "*.css")
        for path in (ROOT / package).rglob(pattern)
    }
    assert {"launch/conf/cluster/default.yaml", "resnet/recipes/paper.yaml", "kernels/aot/limits.csv"} <= here
    assert held == here
