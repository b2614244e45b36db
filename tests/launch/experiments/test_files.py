"""An experiment of one's own is a file; what is wrong in one is one line that names the file and the field."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from bench.config.grammar import WordError
from bench.config.paths import ROOT

HEAD = "shows: a test\nsource: nowhere\n"


def test_one_s_own_is_started_by_its_name(plan: Any, write_own: Any) -> None:
    write_own("mine", "dataset=digits depth=8,20 epochs=1", "dataset=digits depth=8 shortcut=none 'lr=0.5'")
    found = plan("experiment=mine")
    assert [(cell.config.name(), cell.config.lr) for cell in found.cells[2:]] == [("plain8-digits", 0.5)]
    assert [cell.config.name() for cell in found.cells[:2]] == ["resnet8A-digits", "resnet20A-digits"]
    assert {(cell.config.experiment, cell.config.scale) for cell in found.cells} == {("mine", "paper")}
    assert found.notices[0] == "experiment=mine scale=paper, 3 runs: what mine is about (a test)"


def test_its_small_scale_may_be_missing_or_there(plan: Any, write_own: Any) -> None:
    path = write_own("mine", "dataset=digits depth=8")
    with pytest.raises(WordError) as raised:
        plan("experiment=mine scale=small")
    assert str(raised.value) == f"scale=small: experiment=mine has no such scale in {path}; leave scale out"
    write_own("mine", text=f"{HEAD}paper: [dataset=digits depth=20]\nsmall: [dataset=digits depth=8]\n")
    (cell,) = plan("experiment=mine scale=small").cells
    assert (cell.config.depth, cell.config.scale) == (8, "small")


def test_one_s_own_hides_ours(plan: Any, write_own: Any) -> None:
    write_own("table6", "dataset=digits depth=8")
    assert [cell.config.name() for cell in plan("experiment=table6").cells] == ["resnet8A-digits"]


def test_a_key_that_some_of_its_runs_leave_open_is_filled_in_there(plan: Any, write_own: Any) -> None:
    write_own("mine", "dataset=digits depth=8 precision=fp32,bf16", "dataset=digits depth=20")
    found = plan("experiment=mine precision=fp32").cells
    assert [(cell.config.depth, cell.config.precision) for cell in found] == [(8, "fp32"), (20, "fp32")]


def test_seeds_that_are_written_out_are_chosen_from(plan: Any, write_own: Any) -> None:
    write_own("mine", "dataset=digits depth=8 seed=0,1,2")
    assert [cell.config.seed for cell in plan("experiment=mine seed=2,1").cells] == [1, 2]
    with pytest.raises(WordError, match=r"^seed=3: experiment=mine scale=paper has seed=0,1,2 \(nearest: seed=2\)$"):
        plan("experiment=mine seed=3")


def test_repeats_are_never_chosen_from(plan: Any, write_own: Any) -> None:
    write_own("mine", "dataset=digits depth=8 repeats=2", "dataset=digits depth=20 repeats=3")
    found = plan("experiment=mine repeats=1 seed=4").cells
    assert [(cell.config.depth, cell.config.seed) for cell in found] == [(8, 4), (20, 4)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "FILE has no shows; expected shows, source and paper"),
        ("shows: a test\nsource: nowhere\n", "FILE has no paper; expected shows, source and paper"),
        ("shows: a test\npaper: [depth=18]\n", "FILE has no source; expected"),
        (f"{HEAD}papr: [depth=18]\n", "FILE has 'papr', which is no key; nearest is paper"),
        (f"{HEAD}paper: [depth=18]\npaper: [depth=34]\n", "FILE has paper twice; leave one of them out"),
        (f"{HEAD}paper: depth=18\n", "FILE: paper=depth=18, expected a list such as [a, b], or []"),
        (f"{HEAD}paper: {{depth: 18}}\n", "FILE: paper is a map, expected a list"),
        (f"{HEAD}paper: []\n", "FILE: paper is empty; expected words, such as [depth=20,56 dataset=cifar10]"),
        (f"{HEAD}paper: [depth=18]\nsmall: []\n", "FILE: small is empty; expected words"),
        (f"{HEAD}paper: [[depth=18]]\n", "FILE: paper, item 1 is a list, expected a text"),
        (f"{HEAD}paper: [depth=18, null]\n", "FILE: paper, item 2 is null, expected a text"),
        ("shows: [a]\nsource: b\npaper: [depth=18]\n", "FILE: shows is a list, expected a text"),
        ("shows: null\nsource: b\npaper: [depth=18]\n", "FILE: shows is null, expected a text"),
        (f"{HEAD}paper: [depth=18, dept=34]\n", "FILE: paper, item 2: dept=34: no such key; did you mean depth=34?"),
        (f"{HEAD}paper:\n  - depth=7\n", "FILE: paper, item 1: depth=7: depth takes a whole number, at least 8"),
        (f"{HEAD}paper:\n  - depth=18 shortcut=D\n", "FILE: paper, item 1: shortcut=D: choose from none, A, B, C"),
        (f"{HEAD}paper:\n  - depth=18\nsmall:\n  - depth=18 depth=34\n", "FILE: small, item 1: depth=34: depth is g"),
        (f"{HEAD}paper:\n  - depth=18 'lr=1\n", "FILE: paper, item 1: No closing quotation"),
        (f"{HEAD}paper:\n  - depth=18 scale=small\n", "FILE: paper, item 1: scale= is typed beside experiment="),
        (f"{HEAD}paper:\n  - experiment=table6\n", "FILE: paper, item 1: experiment= is typed beside experiment="),
        (f"{HEAD}paper:\n  - depth=18 mode=print\n", "FILE: paper, item 1: mode= is typed beside experiment="),
        (f"{HEAD}paper:\n  - depth=18 seed=range(0,10001)\n", "FILE: paper, item 1: seed=range(0,10001): more than"),
        (f"{HEAD}paper:\n  - depth=18,34 seed=range(0,72) lr=range(1,71)\n",
         "FILE: paper, item 1: seed=range(0,72): the sweeps have 10,080 configurations together"),
        (f"{HEAD}paper:\n  - depth=18 repeats=9999\n  - depth=34,50\n",
         "FILE: paper has more than 10,000 runs with item 2"),
        (f"{HEAD}paper: [depth=18\n", "FILE is not YAML: "),
        ("- shows\n", "FILE holds no keys"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named_with_it(plan: Any, write_own: Any, text: str, said: str) -> None:
    path = write_own("mine", text=text or "\n")
    with pytest.raises(WordError) as raised:
        plan("experiment=mine")
    line = str(raised.value)
    assert line.startswith(f"experiment=mine: {said.replace('FILE', str(path))}") and "\n" not in line


def test_the_one_that_is_documented_can_be_started(plan: Any, write_own: Any) -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    (shown,) = re.findall(r"^    shows: .*\n(?:    .*\n)+", page, re.M)
    write_own("digits", text=textwrap.dedent(shown))
    assert len(plan("experiment=digits").cells) == 2 + 2 * 3
    assert [cell.config.name() for cell in plan("experiment=digits scale=small").cells] == [
        "plain8-digits", "resnet8A-digits",
    ]  # fmt: skip


def test_a_file_that_is_none_is_refused(plan: Any, write_own: Any) -> None:
    path: Path = write_own("mine", "depth=18")
    path.unlink()
    path.mkdir()
    with pytest.raises(WordError, match=f"^experiment=mine: {path} is not a file$"):
        plan("experiment=mine")
