"""What the Makefile, CI and the pages say of one another."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([\w-]+):(?!=)", MAKEFILE, re.M))
MARKS = ("ranks", "interpreted", "slurm", "slow", "soak")


def recipe(target: str) -> str:
    (found,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    return found


def selected(target: str, marks: set[str]) -> int:
    """How often a target runs a test that has these marks."""
    expressions = re.findall(r'-m "([^"]+)"', recipe(target))
    assert expressions
    return sum(bool(eval(one, {mark: mark in marks for mark in MARKS})) for one in expressions)


def test_ci_runs_the_checks_and_all_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make .*$", script, re.M) == [
        "make check", "make test", "make test-page", "make test-exporters", "make test-slurm",
    ]  # fmt: skip
    assert "set -e" in script


def test_every_test_but_those_of_soak_runs_once() -> None:
    """What needs a Slurm is among them, so that it is skipped with its reason."""
    for marks in itertools.chain.from_iterable(itertools.combinations(MARKS, size) for size in range(len(MARKS) + 1)):
        assert selected("test", set(marks)) == ("soak" not in marks), marks
        assert selected("test-fast", set(marks)) == (not marks), marks


def test_pages_name_targets_that_are_there() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "tests").rglob("*.py"),
    ]
    named = {page.name: set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", page.read_text(), re.M)) for page in pages}
    assert {"test", "test-slurm"} <= named["CONTRIBUTING.md"] and {"slurm-up", "slurm-down"} <= named["slurm.md"]
    for name, targets in named.items():
        assert targets <= TARGETS, f"{name}: make {targets - TARGETS}"
    assert set(re.findall(r"^# make ([a-z-]+)", MAKEFILE, re.M)) | {"setup", "clean"} == TARGETS


def test_what_installs_packages_of_the_machine() -> None:
    for target in TARGETS - {"slurm-up", "test-slurm", "test-page"}:
        if found := re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M):
            assert "apt" not in found[0] and "make_slurm.py up" not in found[0], target
    assert "make_slurm.py up" in recipe("slurm-up") and "make_slurm.py test" in recipe("test-slurm")
    assert "make_slurm.py down" in recipe("slurm-down")


def test_an_environment_that_is_linked_from_elsewhere_is_not_emptied(tmp_path: Path) -> None:
    other, checkout = tmp_path / "other", tmp_path / "checkout"
    for folder in (other, checkout):
        folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "setup_venv.py"):
        shutil.copy(ROOT / name, checkout)
    (other / "kept").touch()
    (checkout / ".venv").symlink_to(other)
    done = subprocess.run(["make", "setup"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode != 0 and f".venv is a link to {other}, which would be emptied" in done.stderr
    assert [path.name for path in other.iterdir()] == ["kept"]
