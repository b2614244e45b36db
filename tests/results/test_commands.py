"""`python -m results`: every command of the folder, with what it is for."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import results
from results import __main__ as listing

ROOT = Path(results.__file__).resolve().parent


def there():
    """Names of the commands, found in another way than the list does."""
    folders = {path.parent.name for path in ROOT.glob("*/__main__.py")}
    return folders | {path.stem for path in ROOT.glob("[a-z]*.py") if "\nif __name__ ==" in path.read_text()}


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_every_command_is_listed_with_its_purpose(words, capsys):
    assert listing.main(words) == 0
    out, err = capsys.readouterr()
    found = dict(re.findall(r"^python -m results\.(\w+) +(\S.*)$", out, re.M))
    assert err == "" and set(found) == there() >= {"report", "plot", "export", "recover"}
    for name, purpose in found.items():
        module = importlib.import_module(f"results.{name}")
        if hasattr(module, "__path__"):
            module = importlib.import_module(importlib.import_module(f"results.{name}.__main__").main.__module__)
        assert purpose == module.__doc__.splitlines()[0] and len(purpose) > 20


def test_a_new_command_shows_up_by_itself(tmp_path, monkeypatch):
    package = tmp_path / "results"
    (package / "fresh").mkdir(parents=True)
    (package / "fresh" / "__main__.py").write_text('"""Runs it."""\nfrom results.fresh.command import main\n')
    (package / "fresh" / "command.py").write_text('"""Does what is new.\n\nMore."""\n')
    (package / "single.py").write_text('"""Does one thing."""\nif __name__ == "__main__":\n    pass\n')
    (package / "library.py").write_text('"""Is no command: has no __main__."""\n')
    (package / "store").mkdir()
    monkeypatch.setattr(listing, "HERE", package)
    assert listing.commands() == {"fresh": "Does what is new.", "single": "Does one thing."}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("reprot", "results: reprot: no such command; nearest is python -m results.report\n"),
        ("results.plto", "results: results.plto: no such command; nearest is python -m results.plot\n"),
        ("report", "results: report: is run by itself; nearest is python -m results.report\n"),
    ],
)
def test_a_wrong_word_names_the_nearest_command(word, said, capsys):
    assert listing.main([word]) == 2
    assert capsys.readouterr() == ("", said)


def test_nothing_heavy_is_loaded():
    heavy = {"torch", "pyarrow", "numpy", "scipy", "duckdb"}
    code = (
        f"import sys; from results.__main__ import main; main([]); sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
