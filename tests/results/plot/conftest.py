"""A store of made-up runs, and the words of a picture. No time or accuracy here was measured anywhere."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from results.plot import command
from results.store.files import table_path, write_once
from results.store.schema import to_table

START = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def run(capsys):
    """Calls the command; returns its exit status, stdout and stderr."""

    def call(*words):
        status = command.main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def refused():
    """Whether a call ended with one line on stderr that has these words, and printed nothing."""

    def check(called, message, ended=2):
        status, out, err = called
        assert (status, out) == (ended, "") and err.startswith("results.plot: ") and err.count("\n") == 1
        assert message in err
        return True

    return check


@pytest.fixture
def words_of() -> Callable[[Path], list[str]]:
    """The words of an SVG, one string a piece of text."""

    def read(svg: Path) -> list[str]:
        found = ElementTree.parse(svg).getroot().iter("{http://www.w3.org/2000/svg}text")
        return [" ".join("".join(piece.itertext()).split()) for piece in found]

    return read


class Svg:
    """What is drawn in an SVG: marks and lines by the names they were given, read on the picture's own axes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.groups = {one.get("id", ""): one for one in ElementTree.parse(path).getroot().iter()}

    def marks(self, name: str, axis: str) -> list[float]:
        """Where the marks of a line stand."""
        return [float(one.get(axis, "nan")) for one in self.groups[name].iter() if one.tag.endswith("}use")]

    def ends(self, name: str, axis: str) -> list[float]:
        """The least and the largest coordinate of a line or an area."""
        (path,) = (one.get("d", "") for one in self.groups[name].iter() if one.tag.endswith("}path"))
        found = [float(pair["xy".index(axis)]) for pair in re.findall(r"[ML] (\S+) (\S+)", path)]
        return [min(found), max(found)]

    def on_scale(self, axis: str, places: list[float]) -> list[float]:
        """What coordinates mean on the axis, by the numbers at its ticks."""
        ticks = {}
        for name, group in self.groups.items():
            number = [one.text for one in group.iter() if one.tag.endswith("}text")]
            if re.fullmatch(rf"{axis}tick_\d+", name) and number:
                ticks[self.marks(name, axis)[0]] = float(str(number[0]))
        (low, first), *_, (high, last) = sorted(ticks.items())
        return [first + (place - low) * (last - first) / (high - low) for place in places]


@pytest.fixture
def svg_of() -> type[Svg]:
    """Reads what is drawn in an SVG."""
    return Svg


@pytest.fixture
def said(words_of) -> Callable[[Path], str]:
    """All words of an SVG in one line."""
    return lambda svg: " ".join(words_of(svg))


@pytest.fixture
def drawn(run) -> Callable[..., Path]:
    """Draws one picture of a store; returns its SVG."""

    def draw(root: Path, to: Path, picture: str, *words: str) -> Path:
        status, out, err = run(f"results={root}", f"to={to}", f"draw={picture}", *words)
        assert (status, err) == (0, ""), err
        svg, png = map(Path, out.splitlines())
        assert svg.suffix == ".svg" and png.read_bytes().startswith(b"\x89PNG") and svg.stem == png.stem
        assert re.match(picture.replace("kernels", "roofline"), svg.name) and svg.stat().st_size < 100_000
        return svg

    return draw


class Training:
    """Writes rows of training runs as the suite does, one attempt at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def attempt(
        self,
        run_id: str,
        restart: int = 0,
        epochs: list[dict[str, Any]] | None = None,
        steps: list[dict[str, Any]] | None = None,
        system: dict[str, Any] | None = None,
        **row: Any,
    ) -> Path:
        """Add an attempt; returns the store."""
        known = {
            "schema_version": 1, "restart_count": restart, "status": "completed", "family": "cifar", "depth": 20,
            "shortcut": "A", "stride": "v1", "dataset": "cifar10", "sample": "cifar10-jpeg",
            "loader": "dali", "precision": "bf16",
            "world_size": 2, "global_batch": 128, "target_top1": 0.5, "warmup_steps": 2, "prepare_s": 3.21,
            "init_start": START, "init_stop": START + timedelta(seconds=12.34), "benchmark": "training",
        }  # fmt: skip
        keys = {"run_id": run_id, "restart": restart}
        tables = {
            "runs": [{**known, "run_id": run_id, **row}],
            "epochs": [{**keys, **one} for one in epochs or []],
            "steps": [{**keys, **one} for one in steps or []],
            "system": [{**keys, "system_id": "test", **(system or {"cpu_model": "Test-Only CPU 1", "cpu_cores": 2})}],
        }
        for name, rows in tables.items():
            write_once(table_path(self.root, name, "2000-01", run_id, restart), [to_table(name, rows)])
        return self.root


@pytest.fixture
def training(tmp_path) -> Training:
    """A store under the test's folder that training runs can be added to."""
    (tmp_path / "store").mkdir()
    return Training(tmp_path / "store")
