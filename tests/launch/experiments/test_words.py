"""What is typed beside an experiment chooses among its runs where they differ in that, and changes them elsewhere."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from bench.config.grammar import WordError
from bench.config.run_config import RunConfig
from bench.training.checkpoint import compatibility
from launch import job
from launch.batch.script import script
from launch.cli import main
from launch.plan import LaunchKeys
from results.identity import comparability


def configs(plan: Any, line: str) -> list[RunConfig]:
    return [cell.config for cell in plan(line).cells]


def nets(plan: Any, line: str) -> list[tuple[str, int, int]]:
    return [(config.shortcut, config.depth, config.seed) for config in configs(plan, line)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("experiment=table6 depth=56", [("A", 56, 0)]),
        ("experiment=table6 depth=110", [("A", 110, seed) for seed in range(5)]),
        ("experiment=table6 depth=1202,20", [("A", 20, 0), ("A", 1202, 0)]),  # in the order of the file
        ("experiment=table6 scale=small depth=56", [("A", 56, 0)]),
        ("experiment=figure6 shortcut=none", [("none", depth, 0) for depth in (20, 32, 44, 56, 110)]),
        ("experiment=figure6 depth=1202", [("A", 1202, 0)]),
        ("experiment=figure6 depth=20 shortcut=A", [("A", 20, 0)]),
        ("experiment=figure6 depth=20", [("none", 20, 0), ("A", 20, 0)]),
        # The seeds count up from the one that is typed; fewer are asked for by repeats=.
        ("experiment=table6 depth=110 seed=3", [("A", 110, seed) for seed in range(3, 8)]),
        ("experiment=table6 depth=110 seed=3 repeats=1", [("A", 110, 3)]),
        ("experiment=figure1 seed=3", [("none", 20, 3), ("none", 56, 3)]),
        ("experiment=figure1 repeats=2", [("none", 20, 0), ("none", 20, 1), ("none", 56, 0), ("none", 56, 1)]),
        ("experiment=figure1 seed=1,4", [("none", 20, 1), ("none", 20, 4), ("none", 56, 1), ("none", 56, 4)]),
        # All of these are of one shortcut: it is changed.
        ("experiment=figure1 shortcut=A", [("A", 20, 0), ("A", 56, 0)]),
        # Of a network that only some of its runs name, the word chooses these.
        ("experiment=one-layer family=one-layer", [("A", 20, 0), ("A", 56, 0)]),
        ("experiment=figure1,table6 scale=small", [("none", 20, 0), ("none", 56, 0), ("A", 20, 0), ("A", 56, 0)]),
    ],
)
def test_which_runs_are_left(plan: Any, images: Path, words: str, expected: list[tuple[str, int, int]]) -> None:
    assert nets(plan, f"{words} data={images}") == expected


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("kernels=torch", "kernels", "torch"),
        ("precision=fp32", "precision", "fp32"),
        ("engine=ddp", "engine", "ddp"),
        ("loader=torch", "loader", "torch"),
        ("grad_accum=4", "grad_accum", 4),
        ("epochs=2", "epochs", 2),
        ("recipe=fast", "recipe.name", "fast"),
        ("lr=0.05", "lr", 0.05),
        ("ranks_per_node=4", "ranks_per_node", 4),
        ("results=FOLDER/rows", "results", "FOLDER/rows"),
    ],
)
def test_a_word_changes_every_run(
    plan: Any, images: Path, tmp_path: Path, word: str, field: str, value: object
) -> None:
    found = configs(plan, f"experiment=figure1 data={images} {word.replace('FOLDER', str(tmp_path))}")
    value = str(value).replace("FOLDER", str(tmp_path)) if isinstance(value, str) else value
    first, _, second = field.partition(".")
    got = [getattr(config, first) for config in found]
    assert [getattr(one, second) if second else one for one in got] == [value, value]
    assert {config.data for config in found} == {str(images)}


def test_what_an_experiment_looks_at_is_looked_at_beside_what_is_typed(plan: Any, images: Path) -> None:
    """figure7 without its responses would show nothing of what it says that it shows."""
    found = configs(plan, f"experiment=figure7 examine=gradient-flow data={images}")
    assert {config.examine for config in found} == {"responses,gradient-flow"}
    found = configs(plan, f"experiment=table2 protocol=multi-scale data={images}")
    assert {config.protocol for config in found} == {"10-crop,multi-scale"}


def test_a_folder_of_one_s_own_that_is_not_there_is_refused(
    plan: Any, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNET_BENCH_EXPERIMENTS", "/no/such/folder")
    with pytest.raises(WordError, match="^RESNET_BENCH_EXPERIMENTS=/no/such/folder: no such folder; "):
        plan(f"experiment=table6 data={images}")


def test_nodes_are_those_of_slurm(plan: Any, images: Path) -> None:
    cells = plan(f"experiment=figure4 nodes=2,4 data={images}", "slurm").cells
    assert [cell.config.nodes for cell in cells] == [2, 4] * 4


@pytest.mark.parametrize(
    ("words", "scale"),
    [
        ("", "paper"),
        ("seed=3 kernels=torch precision=fp32 grad_accum=2 loader=torch repeats=2", "paper"),
        ("recipe=paper dataset=cifar10", "paper"),  # as the file has it
        ("epochs=2", None),
        ("steps=2", None),
        ("lr=0.2", None),
        ("recipe=fast", None),
        ("loader=synthetic", None),
        ("scale=small", "small"),
        ("scale=small epochs=2", "small"),
    ],
)
def test_what_the_paper_has_not_is_never_marked_as_the_paper_s(
    plan: Any, images: Path, words: str, scale: str | None
) -> None:
    found = configs(plan, f"experiment=figure1 data={images} {words}")
    assert {(config.experiment, config.scale) for config in found} == {("figure1", scale)}


def test_of_a_sweep_the_paper_s_own_part_is_marked(plan: Any, images: Path) -> None:
    found = configs(plan, f"experiment=figure1 depth=20 data={images} recipe=paper,fast")
    assert [(config.recipe.name, config.scale) for config in found] == [("paper", "paper"), ("fast", None)]


SHOWN = "training and test error of plain nets of 20 and 56 layers on CIFAR-10; the deeper one has the higher of both"
SOURCE = "He et al., CVPR 2016, arXiv:1512.03385, section 1, Figure 1"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", f"experiment=figure1 scale=paper, 2 runs: {SHOWN} ({SOURCE})"),
        ("depth=20", f"experiment=figure1 scale=paper, 1 run: {SHOWN} ({SOURCE})"),
        (
            "scale=small",
            f"experiment=figure1 scale=small, 2 runs: {SHOWN} ({SOURCE}); REDUCED: its figures are not the paper's",
        ),
        (
            "epochs=2 seed=1 lr=0.2",
            f"experiment=figure1 scale=paper, 2 runs: {SHOWN} ({SOURCE}); with epochs=2 lr=0.2 its figures are not the "
            "paper's, and its rows have no scale",
        ),
    ],
)
def test_a_line_says_what_is_run(
    plan: Any, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str, line: str
) -> None:
    del plan  # for its machine alone
    monkeypatch.setattr("launch.foreground.run_all", lambda configs: print(f"{len(configs)} started") or 0)
    assert main("local", ["experiment=figure1", f"data={images}", *words.split()]) == 0
    out, err = capsys.readouterr()
    assert err == f"launch: {line}\n" and out == f"{1 if 'depth' in words else 2} started\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("experiment=table6 depth=57",
         "depth=57: experiment=table6 scale=paper has depth=20,32,44,56,110,1202 (nearest: depth=56)"),
        ("experiment=table6 depth=20,57",
         "depth=57: experiment=table6 scale=paper has depth=20,32,44,56,110,1202 (nearest: depth=56)"),
        ("experiment=table6 scale=small depth=110",
         "depth=110: experiment=table6 scale=small has depth=20,56 (nearest: depth=56)"),
        ("experiment=figure6 shortcut=B",
         "shortcut=B: experiment=figure6 scale=paper has shortcut=none,A (nearest: shortcut=A)"),
        ("experiment=figure6 depth=1202 shortcut=none",
         "depth=1202 shortcut=none: no run of experiment=figure6 scale=paper has all of this; leave one of the words "),
        ("experiment=tabel6", "experiment=tabel6: no such experiment in "),
        ("experiment=figure5", "experiment=figure5: no such experiment in "),
        ("scale=small depth=20 dataset=digits",
         "scale=small: is that of an experiment; add experiment=, one of depth, figure1, figure4, figure6, "),
        ("scale=paper", "scale=paper: is that of an experiment; add experiment=, one of "),
        ("experiment=table6 scale=big", "scale=big: choose from paper, small (nearest: scale=paper)"),
        ("experiment=table6 scale=paper,small", "scale=paper,small: scale takes one value, one of paper, small"),
        ("experiment=table6 dept=20", "dept=20: no such key; did you mean depth=20? (--help lists every key)"),
        ("experiment=table6 depth=1.5", "depth=1.5: depth takes a whole number, at least 8 and at most 12002"),
        ("experiment= depth=20", "experiment=: experiment takes a name"),
        ("experiment=table6 experiment=table2", "experiment=table2: experiment is given twice"),
        ("experiment=figure1 shortcut=A family=imagenet", "experiment=figure1: depth=20: family=imagenet has depths"),
        ("experiment=table6 seed=range(0,60) lr=range(1,60)", "seed=range(0,60): the sweeps have 14,160 config"),
        ("experiment=table6 seed=range(0,45) lr=range(1,45)", "experiment=table6: 11,880 runs; nearest is 10,000 at a"),
        ("experiment=figure1 save=FOLDER/w.safetensors", "save=FOLDER/w.safetensors: 2 configurations would write it"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(plan: Any, images: Path, tmp_path: Path, words: str, message: str) -> None:
    with pytest.raises(WordError) as raised:
        plan(f"data={images} {words}".replace("FOLDER", str(tmp_path)))
    said = str(raised.value)
    assert said.startswith(message.replace("FOLDER", str(tmp_path))) and "\n" not in said


@pytest.mark.parametrize(("typed", "near"), [("tabel6", "table6"), ("figure11", "figure1"), ("Table3", "table3")])
def test_an_unknown_name_is_answered_with_the_nearest(plan: Any, typed: str, near: str) -> None:
    every = "choose from depth, figure1, figure4, figure6, figure7, gradient-flow, one-layer, table2, table3, table6"
    with pytest.raises(WordError, match=rf"{every} \(nearest: experiment={near}\)$"):
        plan(f"experiment={typed}")


def test_one_configuration_of_two_experiments_is_run_once(plan: Any, images: Path) -> None:
    found = plan(f"experiment=figure6,table6 depth=20,56 data={images}")
    assert [(cell.config.shortcut, cell.config.depth, cell.config.experiment) for cell in found.cells] == [
        ("none", 20, "figure6"), ("none", 56, "figure6"), ("A", 20, "figure6"), ("A", 56, "figure6"),
    ]  # fmt: skip
    assert [notice.partition(":")[0] for notice in found.notices] == [
        "experiment=figure6 scale=paper, 4 runs",
        "experiment=table6 scale=paper, 0 runs",
        "2 of 6 configurations repeat another",
    ]


def test_it_is_the_configuration_that_its_words_are_without_a_name(plan: Any, images: Path, tmp_path: Path) -> None:
    words = "dataset=cifar10 recipe=paper shortcut=A depth=56 epochs=8"
    (plain,) = configs(plan, f"{words} data={images}")
    (named,) = configs(plan, f"experiment=table6 scale=small depth=56 data={images}")
    assert (plain.experiment, named.experiment, named.scale) == (None, "table6", "small")
    assert named == plain and hash(named) == hash(plain)
    assert named.config_hash() == plain.config_hash() and named.to_json() == plain.to_json()
    row = {"benchmark": "training", "hardware": None}
    assert comparability({**row, "config_json": named.to_json()}) == comparability(
        {**row, "config_json": plain.to_json()}
    )
    assert compatibility.net_of(named) == compatibility.net_of(plain)


def test_a_printed_script_hands_the_name_on(plan: Any, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = plan(f"experiment=table6 depth=20 data={images} mode=print", "slurm").cells
    given = shlex.split(script(cell).replace("\\\n", " "))
    words = given[given.index("launch.job") + 1 :]
    assert {"experiment=table6", "scale=paper"} <= set(words)
    for name in ("SLURM_JOB_NUM_NODES", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "1")
    ran: list[RunConfig] = []
    monkeypatch.setattr(job, "is_task", lambda environment: True)
    monkeypatch.setattr(job.Job, "__call__", lambda self: ran.append(self.config))
    job.main(words)
    assert [(one.depth, one.experiment, one.scale) for one in ran] == [(20, "table6", "paper")]
    assert ran == [cell.config]


@pytest.mark.parametrize("program", ["local", "slurm"])
def test_the_help_has_the_names(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(program, ["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    names = "depth, figure1, figure4, figure6, figure7, gradient-flow, one-layer, table2, table3, table6"
    assert f"an experiment of the paper ({names}), or of one's own in " in out
    assert {"experiment", "scale"} <= set(LaunchKeys.__dataclass_fields__)
