"""Every command alike: its help, a word that cannot be used, signals, and who goes on when nobody looks on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from every_command import COMMANDS, LAUNCHERS, MODULES, main_of
from small_commands import BODIES, shell

from bench.config import command
from bench.config.grammar import WordError, key, parse
from kernels import runtime

ROOT = Path(__file__).resolve().parents[3]
# These take words that are no key=value: verbs, or whatever may be a folder's name. Their own tests say more.
VERBS, ANY_WORD = {"results.baseline"}, {"results.compare", "results.query"}
# Words that are not used in one way or another, for any command, and what its line says.
BAD = [
    (["foo=1"], "foo=1: no such key (--help lists every key)"),
    (["foo"], "foo: words are key=value (--help lists every key)"),
    ([""], ": words are key=value (--help lists every key)"),
    (["=1"], "=1: no such key (--help lists every key)"),
    (["a\nb=1"], "a b=1: no such key (--help lists every key)"),
    (["-h=1"], "-h=1: no such key (--help lists every key)"),
]


def line_of(name: str, *words: str) -> list[str]:
    """A command as it is started."""
    return [sys.executable, name, *words] if name in LAUNCHERS else [sys.executable, "-m", name, *words]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which nothing may appear."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    return folder


def test_no_command_is_left_out() -> None:
    """Whatever runs as a module is in the list above, or is started by our own code alone."""
    children = {
        "bench.peers.processes",
        "bench.micro.verify",
        "bench.step.verify",
        "kernels.choose.precompile_worker",
        "launch.job",
    }
    moved = {"bench.plain", "bench.plot"}
    lists = {"results"}
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for package in ("bench", "kernels", "launch", "resnet", "results")
        for path in (ROOT / package).rglob("*.py")
        if 'if __name__ == "__main__"' in path.read_text()
    }
    assert found == set(MODULES) | children | moved | lists


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("words", [["--help"], ["foo", "-h"], ["help", "foo=1"]])
def test_help_says_what_it_is_for_and_how_it_is_used(name, words, elsewhere, capsys) -> None:
    assert main_of(name)(words) == 0
    out, err = capsys.readouterr()
    assert err == "" and "Traceback" not in out and not list(elsewhere.iterdir())
    purpose, *_ = out.splitlines()
    assert len(purpose) > 30
    if name in LAUNCHERS:
        assert f"python {name} KEY=VALUE" in out and re.search(r"^python launch/\w+\.py \w+=\w+ \w+=\w+$", out, re.M)
    else:
        usage = re.findall(rf"^    python -m {re.escape(name)}(.*)", out, re.M)
        assert usage and any(re.search(r"\w+=[\w./]+", line) for line in usage)
    assert out.count("type: ") == out.count("default:") > 1


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(("words", "said"), BAD)
def test_a_bad_word_is_one_line_and_exit_status_2(name, words, said, elsewhere, capsys) -> None:
    if name in ANY_WORD or (name in VERBS and "=" not in words[0]):
        pytest.skip("takes such words")
    assert main_of(name)(words) == 2
    out, err = capsys.readouterr()
    program = "launch" if name in LAUNCHERS else name
    assert (out, err) == ("", f"{program}: {said}\n") and not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "bench.check_data data=/none",
        "bench.check_data data=/etc/passwd",
        "bench.check_data data=/tmp workers=1,2",
        "bench.gpu minutes=1,2",
        "bench.gpu to=/proc/x",
        "bench.micro op=conv1x1 tile_config=64x64x64/w4/s4 backend=eager",
        "bench.micro results=/proc/x",
        "bench.micro run=a:b",
        "bench.peers depth=21",
        "bench.peers part=training batch=5000",
        "bench.peers.plain data=/none",
        "bench.peers.plain data=/tmp depth=21",
        "bench.peers.plain data=/tmp epochs=1,2",
        "results.plot to=/proc/none/x",
        "results.plot to=a to=b",
        "bench.step results=/proc/x",
        "kernels.aot jobs=1,2",
        "kernels.aot to=/proc/x",
        "launch/slurm.py depth=20 dataset=digits mode=print cluster=",
        "launch/local.py depth=20 dataset=digits results=/proc/x",
        "launch/slurm.py depth=20 dataset=digits results=/proc/x",
        "results.export run=x results=/none",
        "results.recover results=/none",
        "results.check format=json to=~nobody.here/x",
        f"results.check format=json to={'x' * 300}",
        "results.export run=x to=~nobody.here/x",
        "results.calibrate cells=10001",
        "bench.step results=~nobody.here/x",
        "bench.machine_code jobs=1025",
        "kernels.aot jobs=1025",
        f"launch/local.py depth=20 dataset=digits save={'x' * 300}.safetensors",
        "launch/local.py depth=20 dataset=digits repeats=10001",
        "launch/local.py dataset=digits depth=range(0)",
        "results.recover stale_s=1,2",
        "results.report results=/none",
        "results.report results=~nobody.here/x",
    ],
)
def test_what_cannot_be_is_one_line_that_names_it(line, elsewhere, capsys) -> None:
    name, *words = line.split()
    assert main_of(name)(words) == 2
    out, err = capsys.readouterr()
    program, culprits = "launch" if name in LAUNCHERS else name, [word.partition("=") for word in words[-2:]]
    assert out == "" and err.startswith(f"{program}: ") and err.count("\n") == 1
    assert any(f"{key}=" in err and value in err for key, _, value in culprits) or words[-1][5:] in err, err
    assert not list(elsewhere.iterdir())


@dataclass(kw_only=True)
class Keys:
    """Of the commands that this module makes up."""

    rounds: int = key("turns", "1", default=1, least=1)


def test_a_command_ends_with_its_body_s_status(capsys) -> None:
    def run(body: Callable[[list[Keys]], int], *words: str) -> int:
        return command.run("made.up", "Does nothing.", Keys, lambda typed: parse(typed, Keys), body, words)

    def fail(error: Exception) -> Callable[[list[Keys]], int]:
        def body(cells: list[Keys]) -> int:
            raise error

        return body

    assert run(lambda cells: cells[-1].rounds, "rounds=5,3") == 3
    for error, status in (
        (WordError("rounds=1: no"), 2),
        (command.Failure("no\nGPU"), 1),
        (FileNotFoundError(2, "No such file", "/x"), 1),
        (BrokenPipeError(32, "Broken pipe"), 1),  # of another pipe than stdout
    ):
        assert run(fail(error)) == status
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("made.up: ") and err.count("\n") == 1
    with pytest.raises(ValueError, match="a mistake of ours"):  # which no word can mend: it keeps its traceback
        run(fail(ValueError("a mistake of ours")))
    assert run(lambda cells: 0, "rounds=0") == 2
    assert run(lambda cells: 1, "help") == 0
    assert capsys.readouterr().out.startswith(
        "Does nothing.\n\nrounds  turns\n        type: a whole number, at least 1"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("ignored", [False, True])
def test_signals_end_it_through_finally_unless_they_are_ignored(number, ignored, made_up) -> None:
    start = [sys.executable, "-c", BODIES, made_up["DONE"], "naps", "off"]

    def prepare() -> None:
        for each in command.SIGNALS:  # whatever the tests were started to ignore, as under nohup
            signal.signal(each, signal.SIG_IGN if ignored and each == number else signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(start, env=os.environ | made_up, cwd=ROOT, preexec_fn=prepare, **pipes) as process:
        assert process.stdout and process.stderr and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        if ignored:
            time.sleep(0.3)
            assert process.poll() is None
            number = signal.SIGTERM if number != signal.SIGTERM else signal.SIGHUP
            process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
        assert process.stderr.read() == ""
    assert Path(made_up["DONE"]).read_text() == "done"


@pytest.mark.slow
def test_an_interrupt_at_the_terminal_leaves_workers_to_their_parent(made_up) -> None:
    start = [sys.executable, "-c", BODIES, made_up["DONE"], "forks", "off"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        start,
        env=os.environ | made_up,
        cwd=ROOT,
        **pipes,
    ) as process:
        assert process.stdout and process.stderr and process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 128 + signal.SIGINT and process.stderr.read() == ""
    assert Path(made_up["DONE"]).read_text() == "done"


def test_handlers_and_streams_are_put_back(capsys) -> None:
    before = [signal.getsignal(number) for number in command.SIGNALS], sys.stdout, sys.stderr
    assert command.run("made.up", "", Keys, lambda words: parse(words, Keys), lambda cells: 0, []) == 0
    assert before == ([signal.getsignal(number) for number in command.SIGNALS], sys.stdout, sys.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_help_into_a_closed_pipe_is_quiet(name) -> None:
    """The pipe closes while the modules load, before anything is written to it."""
    words = " ".join(f"'{word}'" for word in line_of(name, "help"))
    ended = shell(f"{words} | true")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_no_command_that_measures_is_ended_by_who_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes on to its end; what only prints what follows from files or a model may stop when nobody reads on."""
    seen: dict[str, bool] = {}

    def run(program: str, *arguments: object, goes_on: bool = False, **keywords: object) -> int:
        seen[program] = goes_on
        return 0

    monkeypatch.setattr(command, "run", run)
    prints = {"bench.roofline", "bench.check_data"}
    for name in (*(name for name in MODULES if name.startswith("bench.")), "launch/local.py"):
        main_of(name)([])
    assert {name for name, on in seen.items() if not on} == prints


@pytest.mark.slow
def test_aot_into_a_closed_pipe_writes_its_table(tmp_path: Path) -> None:
    path = tmp_path / "aot.parquet"
    ended = shell(f'"$PYTHON" -m kernels.aot per=first chips=sm_90 ops=bn_stats to={path} | true')
    assert (ended.returncode, ended.stderr) == (0, "")
    assert pq.read_table(path).num_rows > 0


def test_a_command_without_a_folder_for_temporary_files_says_what_names_one(capsys) -> None:
    def do(task: list[str]) -> int:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/']")

    @dataclass
    class Keys:
        pass

    assert command.run("some.command", "", Keys, lambda words: words, do, []) == 1
    said = "some.command: [Errno 2] No usable temporary directory found in ['/tmp', '/']: TMPDIR=FOLDER, a variable, "
    assert capsys.readouterr().err == f"{said}names another\n"
