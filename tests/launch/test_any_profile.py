"""Whatever a site profile holds, it is used or refused in one line; a batch script is one that bash and Slurm can read.

Profiles are made up by hypothesis: shortly in every run of the tests, for minutes under `make soak`.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from any_input import called, is_line, short, soak
from hypothesis import given
from hypothesis import strategies as st

from launch.cli import main
from launch.cluster import FOLDER, ClusterConfig

KEYS = [option.name for option in fields(ClusterConfig) if option.name != "name"]
TEXTS = (
    "gpu", "a b", "a'b", 'a"b', "a\nb", "a\n#SBATCH --account=other", "\n", "a\r", "\t", "\x00", "\x1b[31m", "\x85",
    "\u2028",
    "\ud800", "\udc80", "${HOME}", "${oc.env:HOME}", "$HOME", "$(id)", "`id`", "; id", "& id", "| id", "\\", "a\\",
    "'", '"', "(",
    ")", "{", "}", "#", "# a", "!", "*", "~", "-", "--help", "%j", "é", "中", "x" * 5000, "", " ", "null", "no", "0123",
    "12:00:00", "1-00", "90", "9" * 5000, "9" * 30, "0", "-1", "3.5", "1e3", "nan", "inf", "2026-11-30", "2026-13-45",
    "none",
    "pyxis", "apptainer", "docker", "digits", "cifar10", "imagenet", "/shared/rows", "/shared/a b", "relative", "~/x",
)  # fmt: skip
LINES = (
    "module load cuda", "export A=${HOME}/bin:$PATH", "if true; then", "fi", "cat <<EOF", "cat <<EOF\na\nEOF", "EOF",
    "echo 'a",
    "echo \\", "# a \\", "foo() {", "}", "case x in", "for a in 1 2; do\n\techo $a\ndone", "#SBATCH --account=other",
    "exit 0",
    "shopt -s extglob\nls !(x)", "$(", "((", "[[ a", "`", "&&", "set -e", ": ${A:=1}",
)  # fmt: skip
TEXT = st.one_of(st.sampled_from(TEXTS), st.text(max_size=10), st.sampled_from(LINES))
SCALAR = st.one_of(
    TEXT, st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.datetimes(), st.binary(max_size=4)
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALAR, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
# What keys may well hold, so that a script comes of it.
FITTING: dict[str, st.SearchStrategy[Any]] = {
    "gpus_per_node": st.integers(0, 9),
    "cpus_per_task": st.integers(1, 9),
    "signal_lead_s": st.integers(0, 100),
    "time": st.sampled_from(["90", "10:30", "02:00:00", "1-00", "2-0:0:0"]),
    "exclusive": st.booleans(),
    "numa": st.booleans(),
    "mount_home": st.booleans(),
    "mem": st.sampled_from(["0", "64G", "1000"]),
    "gres": TEXT.map("gpu:{}:{{gpus}}".format),
    "sbatch_args": st.one_of(st.just(["--hold"]), TEXT.map(lambda text: [f"--comment={text}"])),
    "srun_args": TEXT.map(lambda text: [f"--mpi={text}"]),
    "env": st.dictionaries(st.sampled_from(["A", "NCCL_DEBUG", "PATH_OF", "A B"]), TEXT, max_size=2),
    "caches": TEXT.map("/shared/{}".format),
    "setup": st.lists(st.one_of(st.sampled_from(LINES), TEXT), max_size=3),
    "container": st.sampled_from(["none", "pyxis", "apptainer"]),
    "mounts": st.lists(TEXT, max_size=3),
    "data": st.dictionaries(st.sampled_from(["digits", "cifar10", "imagenet"]), TEXT, max_size=2),
    "results": st.sampled_from(["/shared/rows", "/shared/a b", "/shared/$HOME/`id`", "/shared/'x"]),
}
PAIRS = st.sampled_from(KEYS).flatmap(lambda key: st.tuples(st.just(key), FITTING.get(key, TEXT)))
ODD_PAIRS = st.tuples(st.one_of(st.sampled_from(KEYS), SCALAR), VALUE)
PROFILES = st.one_of(
    st.lists(PAIRS, max_size=5).map(dict),
    st.lists(PAIRS, max_size=5).map(dict),
    st.lists(st.one_of(PAIRS, ODD_PAIRS), max_size=4).map(dict),
    VALUE,
)
WRITTEN = (
    b"", b"~", b"- 1", b"account", b"[1, 2", b"account: &a x\nqos: *a", b"account: *none", b"a: &a [*a]\nsetup: *a",
    b"setup: &a [*a]", b"data: &a {cifar10: *a}", b"<<: {account: x}", b"account: x\n<<: *b", b"\taccount: x",
    b"account:\tx",
    b"account: x\naccount: y", b"data: {cifar10: /a, cifar10: /b}", b"--- 1\n--- 2", b"%YAML 9.9\n---\naccount: x",
    b"%TAG",
    b"account: !!python/object/apply:os.system [id]", b"account: !!binary aGk=", b"account: !!int x",
    b"account: !!bool x",
    b"account: !!timestamp x", b"cpus_per_task: !!float 4", b"? [a]\n: b", b"? account\n: x", b"account: |\n  a\n  b",
    b"setup:\n  - |\n    if true; then\n      echo a\n    fi", b"account: >-\n  a\n  b", b"\xff\xfe",
    b"\xff\xfea\x00:\x00 \x001\x00",
    b"account: \xe9", b"account: \xff\xff", b"\x00", b"account: \x00", b"account: \x1b", b"\xef\xbb\xbfaccount: x",
    b"[" * 5000, b"{a: " * 5000, b"- " * 5000, b"a:\n" * 5000, b"setup: " + b"[" * 3000 + b"]" * 3000, b"'" * 5001,
    b"a: &a [x]\nb: &b [*a,*a]\nsetup: *b", b"account: 0x1F\nqos: 1_000\nexclude: 1:30", b"time: 12:00:00",
    b"account: \"a\\x00b\"",
    b"account: \"a\\nb\"", b"account: \"\\ud800\"", b"account: @x", b"account: `x", b"# a comment", b"...",
    b"account: x #y",
    b"time: " + 5000 * b"9", b"gpus_per_node: " + 5000 * b"9", b"gpus_per_node: 1.0", b"gpus_per_node: '8'",
    b"\x7fELF\x02\x01" * 40,
)  # fmt: skip


def dumped(value: Any) -> bytes:
    try:
        return yaml.dump(value).encode("utf-8", "surrogatepass")
    except yaml.YAMLError:
        return repr(value).encode("utf-8", "surrogatepass")


def mutated(content: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, new in changes:
        at = place % (len(content) + 1)
        content = content[:at] + new + content[at + length :]
    return content


CONTENTS = st.one_of(PROFILES.map(dumped), PROFILES.map(dumped), st.sampled_from(WRITTEN), st.binary(max_size=40))
PIECES = st.one_of(
    st.binary(max_size=3),
    st.sampled_from([b"\n", b"\t", b": ", b"&a ", b"*a", b"- ", b"[", b"{", b"'", b'"', b"|", b"#"]),
)
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 8), PIECES), max_size=3)
CHANGED = st.one_of(CONTENTS, st.tuples(CONTENTS, CHANGES).map(lambda pair: mutated(*pair)))


@pytest.fixture(autouse=True)
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNET_BENCH_CLUSTERS", str(tmp_path))
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.yaml"


OPTIONS = {
    "account", "comment", "constraint", "cpus-per-task", "exclude", "exclusive", "gpus-per-node",
    "gres", "hold", "mem", "job-name", "no-requeue", "nodes", "ntasks-per-node",
    "open-mode", "output", "partition", "qos", "reservation", "signal", "time",
}  # fmt: skip


def printed() -> str:
    """The script over the profile; empty where it was refused in one line."""
    words = ["depth=20", "dataset=digits", "ranks_per_node=1", "cluster=mine", "mode=print"]
    said = called(lambda words: main("slurm", words), words)
    assert not said.fault, said.fault
    if said.status != 0:
        assert said.status == 2 and said.out == "" and is_line(said.err), said
        assert said.err.startswith("launch: cluster=mine: "), said
        return ""
    assert said.err == "" and said.out
    return said.out


def check_script(script: str) -> None:
    asked, _, rest = script.partition("\n# setup\n")
    names = [re.fullmatch(r"#SBATCH --([a-z-]+)(=.*)?", line) for line in asked.splitlines()[3:] if line]
    assert all(names) and {name[1] for name in names if name} <= OPTIONS, asked
    assert len(names) == len({name[1] for name in names if name}), asked
    assert all(char.isprintable() or char in "\n\t" or ord(char) > 127 for char in script), script
    done = subprocess.run(["bash", "-O", "extglob", "-n"], input=script.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), script
    # What comes after the lines of the site is the script's own, whatever they are.
    assert re.search(r"^LOGS=", rest, re.M) and " -m launch.job \\\n" in rest


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    if script := printed():
        check_script(script)


@pytest.mark.parametrize("content", WRITTEN, ids=lambda content: repr(content[:24]))
def test_these_profiles_are_used_or_named(clusters: Path, content: bytes) -> None:
    check(clusters, content)


@pytest.mark.slow
def test_any_profile_is_used_or_named(clusters: Path) -> None:
    @short(300)
    @given(content=CHANGED)
    def tried(content: bytes) -> None:
        check(clusters, content)

    tried()


@pytest.mark.soak
def test_any_profile_for_minutes(clusters: Path) -> None:
    assert soak(lambda content: check(clusters, content), "profiles", content=CHANGED) > 200


def folder(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def to_itself(path: Path) -> None:
    path.symlink_to(path)


def to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("none"))


def to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [folder, fifo, to_itself, to_nothing, to_a_device])
def test_what_is_no_file_is_named(clusters: Path, make: Callable[[Path], None]) -> None:
    make(clusters)
    assert printed() == ""


def test_a_profile_that_may_not_be_read_is_named(clusters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FOLDER / "default.yaml", clusters)
    whole = Path.read_bytes

    def read(path: Path) -> bytes:  # the tests may run as root, to whom no file is closed
        if path == clusters:
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert printed() == ""
