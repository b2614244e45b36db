"""Commands of a user who may read the checkout and not write to it, with caches and homes of every kind.

They work, or end before anything starts in one line that names what cannot be written and what moves it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from results.store.files import read_rows

ROOT = Path(__file__).resolve().parents[2]
RECORD = f"results={ROOT}/results/record"
NOBODY, NAMELESS = 65534, 54321  # a user with a name and no home, and one that the machine does not know
RUN = ("launch/local.py", "depth=8", "dataset=digits", "batch=16", "steps=12", "engine=ddp")

Run = Callable[..., subprocess.CompletedProcess[str]]


def as_user(user: int) -> list[str]:
    """A command's first words by which it has a user's rights to write; it may read all, as where Python lies."""
    read = "dac_read_search"
    return [
        "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", f"--bounding-set=-all,+{read}",
        f"--inh-caps=-all,+{read}", f"--ambient-caps=-all,+{read}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that everybody can write to, in one that nobody can."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not shutil.which("setpriv") or subprocess.run([*as_user(NOBODY), "true"], capture_output=True).returncode:
        pytest.skip("setpriv cannot make another user of this one")
    if not subprocess.run([*as_user(NOBODY), "test", "-w", str(ROOT / "results")]).returncode:
        pytest.skip("everybody may write to this checkout")
    # Not below pytest's own folder, which is root's alone.
    with tempfile.TemporaryDirectory(prefix="other-user-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "open").mkdir()
        (folder / "open").chmod(0o777)
        yield folder


@pytest.fixture
def run(place: Path) -> Run:
    def done(*words: str, user: int = NOBODY, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / words[0])] if words[0].endswith(".py") else ["-m", words[0]]
        return subprocess.run(
            [*as_user(user), sys.executable, *command, *words[1:]],
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"} | environment,
            cwd="/" if words[0].endswith(".py") else ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("user", "environment", "said"),
    [
        (NOBODY, {}, r"\S+/\.cache/resnet-bench: / cannot be written to, "),
        (NOBODY, {"HOME": ""}, r"/\.cache/resnet-bench: / cannot be written to, "),
        (NOBODY, {"HOME": "/nonexistent"}, "/nonexistent/.cache/resnet-bench: / cannot be written to, "),
        (NOBODY, {"HOME": str(ROOT)}, f"{ROOT}/.cache/resnet-bench: {ROOT} cannot be written to, "),
        (NOBODY, {"HOME": "/dev/null"}, "/dev/null/.cache/resnet-bench: /dev/null cannot be written to, "),
        (NOBODY, {"XDG_CACHE_HOME": "/etc"}, "/etc/resnet-bench: /etc cannot be written to, "),
        (NAMELESS, {}, "no home folder to keep prepared data in: "),
        (NAMELESS, {"HOME": "/"}, "/.cache/resnet-bench: / cannot be written to, "),
    ],
)
def test_a_cache_that_cannot_be_written_is_refused_in_the_plan(
    run: Run, place: Path, user: int, environment: dict[str, str], said: str
) -> None:
    done = run(*RUN, f"results={place}/open/refused", user=user, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    line = rf"launch: dataset=digits: {said}.*XDG_CACHE_HOME=FOLDER, a variable, says where\n"
    assert re.fullmatch(line, done.stderr), done.stderr
    assert not (place / "open" / "refused").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            RUN,
            2,
            f"launch: results={ROOT}/results/v1: {ROOT}/results.* is not a folder that can be written to; results=",
        ),
        (
            (*RUN, "results=/etc/x"),
            2,
            "launch: results=/etc/x: /etc is not a folder that can be written to; results=PATH",
        ),
        (("bench.micro", "op=stem"), 2, f"bench.micro: results={ROOT}/results/v1: .*; results=PATH says where else"),
        (("bench.step", "depth=18"), 2, f"bench.step: results={ROOT}/results/v1: .*; results=PATH says where else"),
        (
            ("bench.pairs", "a=kernels=torch", "b=engine=ddp", "depth=8", "dataset=digits"),
            2,
            f"bench.pairs: results={ROOT}/results/v1: .*; results=PATH says where else",
        ),
        (
            ("bench.pairs", "a=commit:nonesuch", "depth=8", "dataset=digits", "results={open}/pairs"),
            2,
            "bench.pairs: a=commit:nonesuch: ",
        ),
        (
            ("results.export", "run=2622ceb3", RECORD),
            2,
            f"results.export: to={ROOT}/results/record: .* is not a folder .*; to=PATH says where else",
        ),
        (
            ("results.baseline", "accept", "run=2622ceb3", "reason=x", RECORD),
            2,
            f"results.baseline: accept: {ROOT}/results/record/baselines: Permission denied; .*",
        ),
    ],
)
def test_what_cannot_be_written_is_one_line_that_names_it(
    run: Run, place: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    done = run(*(word.replace("{open}", f"{place}/open") for word in words), XDG_CACHE_HOME=f"{place}/open/cache")
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert re.fullmatch(f"{said}.*\n", done.stderr), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("results.report", RECORD), 0),
        (("results.query", "SELECT count(*) FROM runs", RECORD), 0),
        (("results.check", RECORD), 2),  # nothing is comparable there
        (("results.history", RECORD), 0),
        (("results.recover", RECORD), 0),
        (("bench.roofline", "depth=18"), 0),
        (("bench.micro", "op=stem", "results={open}/rows"), 0),
        (("bench.check_data", "data={open}/../images"), 0),
        (("results.plot", "run=2622ceb3", "draw=accuracy", RECORD, "to={open}/pictures"), 0),
        (("results.export", "run=2622ceb3", RECORD, "to={open}/copies"), 0),
        (("launch/slurm.py", "depth=50", "loader=synthetic", "mode=print"), 0),
    ],
)
def test_what_need_not_be_written_there_is_done(run: Run, place: Path, words: tuple[str, ...], status: int) -> None:
    for split in ("train", "val"):
        (place / "images" / split / "a").mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 36), 40).convert("RGB").save(place / "images" / split / "a" / "1.jpg")
    done = run(*(word.replace("{open}", f"{place}/open") for word in words), HOME="/nonexistent", TMPDIR="/etc")
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("user", "more"), [(NOBODY, ()), (NAMELESS, ("loader=torch",)), (NOBODY, ("engine=deepspeed",))]
)
def test_a_run_elsewhere_is_done(run: Run, place: Path, user: int, more: tuple[str, ...]) -> None:
    words = [word for word in RUN if not any(word.partition("=")[0] == each.partition("=")[0] for each in more)]
    rows = place / "open" / f"rows-{user}-{len(more)}-{'-'.join(more)}"
    cache = f"{place}/open/cache-{user}"
    done = run(*words, *more, f"results={rows}", user=user, XDG_CACHE_HOME=cache, HOME="/nonexistent")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,), _ = read_rows(rows, "runs")
    assert row["status"] == "completed" and row["git_commit"]


@pytest.mark.ranks
def test_a_mean_image_that_cannot_be_kept_ends_a_run_in_one_line(run: Run, place: Path) -> None:
    for split, count in (("train", 32), ("val", 8)):
        for name in ("a", "b"):
            (place / "pictures" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.effect_noise((40, 36), 40 + i).convert("RGB").save(place / "pictures" / split / name / f"{i}.png")
    words = ("depth=8", "family=cifar", "dataset=imagefolder", f"data={place}/pictures", "image_size=32", "batch=16")
    rows = place / "open" / "rows-of-paper"
    done = run("launch/local.py", *words, "recipe=paper", "engine=ddp", f"results={rows}", HOME="/nonexistent")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (row,), _ = read_rows(rows, "runs")
    assert (row["status"], row["failure_kind"]) == ("failed", "data")
    assert re.fullmatch(
        r"/nonexistent/\.cache/resnet-bench/mean: / cannot be .*XDG_CACHE_HOME.*", row["failure_message"]
    )
