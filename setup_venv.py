"""Makes .venv: the versions of constraints.txt, beside whatever torch the interpreter that runs this has already.

    python setup_venv.py .venv

A container's torch, or that of an activated environment, is kept, and what came with it: .venv sees its packages (a
.pth file names their folders) and gets what is missing. Otherwise .venv gets the torch of constraints.txt. One line
says which. Needs the standard library alone.
"""

import importlib.metadata
import os
import re
import site
import subprocess
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # which PYTHONSAFEPATH would leave out
from kernels import interpreter  # noqa: E402

TORCH = (2, 11)  # the oldest that pyproject.toml takes
ORIGIN = "origin.txt"  # in .venv: the interpreter that it was made with


def main(words: list[str]) -> int:
    """Make the environment in the folder that is named."""
    (folder,) = map(Path, words)
    begin_outside(folder)
    torch = torch_here()
    keep = torch is not None and minor(torch) >= TORCH
    run(sys.executable, "-m", "venv", "--clear", folder)
    (folder / ORIGIN).write_text(sys.executable)
    python = folder / "bin" / "python"
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    if keep:
        show_packages_to(folder)
        pins = pins_beside(pins, versions(), importlib.metadata.requires("torch") or [])
        print(f"setup: torch {torch} of {sys.executable} is kept, with what came with it")
    elif torch is not None:
        print(f"setup: torch {torch} of {sys.executable} is older than {'.'.join(map(str, TORCH))}; .venv has its own")
    else:
        print(f"setup: {sys.executable} has no torch; .venv gets that of constraints.txt")
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n")
    run(
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "-c",
        constraints,
        "-e",
        f"{ROOT}[test,check]",
    )
    return 0


def begin_outside(folder: Path) -> None:
    """Begin again with the interpreter that .venv was made with, where .venv's own runs this: it is about to go."""
    if Path(sys.prefix).resolve() != folder.resolve():
        return
    try:
        origin = (folder / ORIGIN).read_text()
    except OSError:
        origin = sys._base_executable  # type: ignore[attr-defined]
    if not os.access(origin, os.X_OK):
        sys.exit(
            f"setup: .venv was made with {origin}, which is gone: deactivate .venv, or say make PYTHON=/path/to/python3"
        )
    os.execv(origin, [origin, __file__, str(folder)])


def torch_here() -> str | None:
    """The version of this interpreter's torch; None where there is none."""
    try:
        with warnings.catch_warnings(action="ignore"):  # that there is no NumPy yet, say
            import torch
    except (ImportError, OSError) as error:  # OSError: of a library that is missing
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            return None
        reason = str(error).splitlines()[0]
        sys.exit(f"setup: torch of {sys.executable} cannot be imported: {reason}; mend it, or say make PYTHON=...")
    return str(torch.__version__)


def show_packages_to(folder: Path) -> None:
    """Let the environment see this interpreter's packages behind its own.

    `--system-site-packages` would do for a container's interpreter, and not for that of an activated environment.
    """
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    (packages,) = folder.glob("lib/python*/site-packages")
    # As code, so that the .pth files there count too.
    lines = [f"import site; site.addsitedir({place!r})" for place in folders if os.path.isdir(place)]
    (packages / "origin.pth").write_text("\n".join(lines) + "\n")


def versions() -> dict[str, str]:
    """What is installed for this interpreter, by name."""
    return {
        normal(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions()
        if found.metadata["Name"]
    }


def pins_beside(pins: list[str], there: dict[str, str], torch_requires: list[str]) -> list[str]:
    """The lines of constraints.txt that hold beside what is there.

    torch and Triton stay at their versions. A pin of anything else that is there goes, and of what torch asks for: pip
    keeps what serves. Where a Triton stays that interprets beside an older NumPy alone, a new NumPy is such a one.

    Args:
        pins: lines of constraints.txt.
        there: versions of what is installed, by normal name.
        torch_requires: requirements of the torch that is installed.
    """
    asked = [line for line in torch_requires if "extra ==" not in line]
    free = {*there, *(normal(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in asked)}
    kept = [f"{name}=={there[name]}" for name in ("torch", "triton") if name in there]
    for line in pins:
        found = re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line)
        if found is None or normal(found[1]) in free:
            continue
        name, version = normal(found[1]), found[2]
        if name == "numpy" and "triton" in there and interpreter.fault(there["triton"], version):
            line = f"numpy<{'.'.join(map(str, interpreter.NUMPY))}"
        kept.append(line)
    return kept


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def minor(version: str) -> tuple[int, ...]:
    """Major and minor of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def run(*command: object) -> None:
    """Run a command whose failure is ours."""
    status = subprocess.run([str(word) for word in command]).returncode
    if status:
        sys.exit(f"setup: exit status {status} of {' '.join(map(str, command))}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
