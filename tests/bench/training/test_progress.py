"""Progress: events cross between processes whole, and a log gets plain lines."""

import io
import json
from pathlib import Path

import pytest

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.training.progress import VARIABLE, Display, Emitter, Follower, clock
from kernels.choose.choice import TORCH, Choice
from resnet.fused.layer_choices import LayerChoices

CONFIG, _ = resolve(RunKeys(depth=20, dataset="digits"), Host(ranks_per_node=2))
START = {"event": "start", "about": "269,722 parameters", "epochs": 2, "steps": 44, "target": 0.97}
STEP = {"event": "step", "epoch": 1, "step": 11, "images_per_s": 1234.5, "loss": 2.25, "left_s": 75.0}
EPOCH = {
    "event": "epoch", "epoch": 1, "loss": 1.5, "top1": 0.9812, "elapsed_s": 12.34, "images_per_s": 987.0,
    "left_s": 12.0, "reached": True,
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, *events: dict[str, object]) -> str:
    display = Display(CONFIG, stream)
    for event in events:
        display.feed(event)
    display.close()
    return stream.getvalue()


def test_a_log_gets_a_line_an_epoch_and_no_control_characters() -> None:
    text = shown(io.StringIO(), START, STEP, EPOCH)
    assert "\x1b" not in text and "\r" not in text
    assert text.splitlines() == [
        "resnet20A-digits: 269,722 parameters",
        "epoch 1/2  987 images/s  loss 1.500  top-1 98.12%  12.3 s  0:12 left  target 97.00% reached",
    ]


def test_a_terminal_gets_a_live_line_with_all_that_matters() -> None:
    text = shown(Terminal(), START, EPOCH, {**STEP, "epoch": 2, "step": 33})
    for part in ("epoch 2/2", "1,234 images/s", "loss 2.250", "top-1 98.12%", "1:15 left", "████████████░░░░"):
        assert part in text


def test_nothing_is_made_up_where_there_was_no_evaluation() -> None:
    text = shown(io.StringIO(), START, {**EPOCH, "top1": None, "images_per_s": None, "reached": False})
    assert "no evaluation" in text and "%" not in text and "images/s" not in text


OURS = Choice(forward="triton", dgrad="triton", inference="triton")
PROLOGUE = Choice(forward="prologue", dgrad="triton")
INFERENCE = Choice(inference="triton")  # in training it is cuDNN's


@pytest.mark.parametrize(
    ("choices", "fused"),
    [
        ([], 0),
        ([TORCH, TORCH, TORCH], 0),
        ([TORCH, INFERENCE, TORCH], 0),
        ([TORCH, PROLOGUE, TORCH], 1),
        ([TORCH, Choice(forward="triton"), Choice(dgrad="triton"), INFERENCE], 2),
        ([OURS, PROLOGUE, PROLOGUE], 3),
    ],
)
def test_fused_convolutions_are_counted_by_their_fields(
    choices: list[Choice], fused: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = LayerChoices.of({f"layer1.{i}.conv1": choice for i, choice in enumerate(choices)}).layers
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.jsonl"))
    emitter = Emitter(CONFIG)
    emitter.emit("choices", table="the table\n", layers=layers)
    emitter.close()
    text = shown(io.StringIO(), *Follower(tmp_path / "progress.jsonl").new_events())
    line = f"in training fused kernels compute {fused} of {len(choices)} convolutions, cuDNN the others"
    assert text == f"the table\nkernels={CONFIG.kernels}: {line}\n"


def test_events_reach_the_follower_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.jsonl"
    follower = Follower(path)
    assert list(follower.new_events()) == []
    monkeypatch.setenv(VARIABLE, str(path))
    emitter = Emitter(CONFIG)
    emitter.emit("step", epoch=1, step=2)
    assert list(follower.new_events()) == [{"event": "step", "epoch": 1, "step": 2}]
    with path.open("a") as file:  # a writer caught in the middle of a line
        file.write(json.dumps(START)[:20])
        file.flush()
        assert list(follower.new_events()) == []
        file.write(json.dumps(START)[20:] + "\n")
    assert list(follower.new_events()) == [START]
    emitter.close()
    emitter.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
@pytest.mark.parametrize("path", ["/dev/full", "/proc/none/progress"])
def test_progress_that_cannot_be_written_ends_no_run(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, path)
    emitter = Emitter(CONFIG)
    for _ in range(3):
        emitter.emit("step", epoch=1)
    emitter.close()
    assert capsys.readouterr().err.count("progress is no longer shown") == 1


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left"), OSError(5, "EIO")])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_display_that_nobody_can_see_ends_no_run(
    error: OSError, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closed(Terminal if terminal else io.StringIO):  # type: ignore[misc]
        def write(self, text: str) -> int:
            raise error

        flush = write  # type: ignore[assignment]

        def fileno(self) -> int:  # Rich points it elsewhere before it ends the process
            return nowhere.fileno()

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdout", Closed())
    with open("/dev/null", "w") as nowhere:
        emitter = Emitter(CONFIG)
        for event in (START, STEP, EPOCH):
            emitter.emit(**event)
        emitter.close()
    assert capsys.readouterr().err.count("progress is no longer shown") == 1


def test_what_a_full_disk_tore_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.write_text('{"event": "st\n{"event": "end"}\n')
    assert list(Follower(path).new_events()) == [{"event": "end"}]
    assert list(Follower(tmp_path).new_events()) == []  # no file


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3601, "1:00:01"), (-3, "0:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
