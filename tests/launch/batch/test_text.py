"""Text is text: whatever a profile says reaches sbatch, srun and the ranks as it was typed, or is refused."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from bench.config import grammar
from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from launch.batch.script import script
from launch.cluster import ClusterConfig
from launch.plan import make_plan
from launch.profile_file import read

# What YAML takes for a flag, a number, a time, nothing or a sign of its own; then what a shell does, and Slurm.
PLAIN = (
    "yes", "no", "on", "true", "12:00:00", "1:30", "0123", "0x1F", "1e3", "1_000", "3.50", "null", "~", "Null",
    "2026-11-27", "2026-11-27T10:00:00Z", "1", "=", "<<", "a b", "a  b", "it's", 'say "x"', "'", "$HOME", "${HOME}",
    "$(id)", "`id`", "a\\b", "\\", "a\\", "a\\nb", "a,b", "a:b", "a;b", "a&b", "a|b", "100%", "%j-%x", "%%", "a*b",
    "a#b", "-x", "a=b", "é 中", "a!b", "x" * 2000,
)  # fmt: skip
# These do not stand in a YAML file without quotes, or not as they are.
SIGNS = (
    "*", "*a", "&a", "&a b", "!a", "!a b", "[a|b]", "{a}", "#a", "a #b", "a: b", "@a", "%a", "|", ">", " a", "a ", "-",
    "? a", "\t",
)  # fmt: skip
KINDS = {option.name: option.type for option in fields(ClusterConfig) if option.name != "name"}
# How a text stands in a value, where that is not the text.
WRITTEN: dict[str, Callable[[str], str]] = {
    "caches": "/{}".format, "results": "/{}".format, "mounts": "/{}:/b".format, "data": "/{}".format,
    "gres": lambda text: f"gpu:{text}:{{gpus}}", "sbatch_args": "--comment={}".format, "srun_args": "--mpi={}".format,
}  # fmt: skip
FRONT = {list[str]: "{}:\n- ", dict[str, str]: "{}:\n  NAME: "}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.setenv("RESNET_BENCH_CLUSTERS", str(tmp_path))
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)

    def write(text: str) -> str:
        (tmp_path / "mine.yaml").write_text(text)
        return "mine"

    return write


def entries() -> list[tuple[str, Callable[[str], str], str]]:
    """Each key that holds text, how a text stands in it, and what stands before that in a file."""
    kinds = {key: kind for key, kind in KINDS.items() if kind not in (bool, int)}
    return [(key, WRITTEN.get(key, "{}".format), FRONT.get(kind, "{}: ").format(key)) for key, kind in kinds.items()]


@pytest.mark.parametrize(("key", "write", "before"), entries(), ids=lambda entry: str(entry)[:12])
def test_what_stands_in_a_profile_is_its_value_or_is_refused(
    tmp_path: Path, key: str, write: Callable[[str], str], before: str
) -> None:
    path, taken = tmp_path / "mine.yaml", 0
    for text in (*PLAIN, *SIGNS):
        value = write(text)
        for typed in (value, quoted(value)):
            path.write_text(f"{before}{typed}\n")
            try:
                found = read("cluster=mine", path, KINDS)[key]
            except WordError as error:
                assert "cluster=mine: " in str(error) and "\n" not in str(error)
                assert typed == value or "\t" in value, error  # nothing is refused in quotes but what ends a line
                assert "quotes" in str(error) or "\t" in value, error
                continue
            found = (
                next(iter(found.values()))
                if isinstance(found, dict)
                else found[0]
                if isinstance(found, list)
                else found
            )
            # In YAML blanks around a text, and what follows a blank and #, are none of it.
            seen = value.strip() if typed == value else value
            seen = re.split(r"(?:^|\s+)#", seen)[0] if typed == value else seen
            nothing = typed == value and seen in ("", "null", "~", "Null")
            assert found == (None if nothing else seen), (typed, found)
            taken += not nothing
    assert taken > len(PLAIN) + len(SIGNS)


def arguments(text: str) -> list[str]:
    """What sbatch reads in the lines of a script, as its own `_get_argument` does: a backslash counts in quotes too.

    Source: Slurm, src/sbatch/opt.c.
    """
    found = []
    for line in text.splitlines():
        word, quote, escaped, begun = "", "", False, False
        for char in line.removeprefix("#SBATCH ") if line.startswith("#SBATCH ") else "":
            if escaped:
                word, escaped = word + char, False
            elif char == "\\":
                escaped = True
            elif quote:
                word, quote = (word, "") if char == quote else (word + char, quote)
            elif char in "'\"":
                quote = char
            elif char == "#":
                break
            elif char.isspace():
                raise AssertionError(f"a second word in {line}")
            else:
                word += char
            begun = True
        found += [word] if begun else []
    return found


# They write down what they get: arguments, and variables.
SRUN = """#!/usr/bin/env bash
printf '%s\\0' "$@" > {folder}/ARGUMENTS
env -0 > {folder}/VARIABLES
"""
SCONTROL = "#!/bin/sh\necho JobId=7 Restarts=0 OverSubscribe=NO NodeAddr=127.0.0.1\n"
CONTAINERS = {
    "none": "",
    "pyxis": "container: pyxis\nimage: {image}\nmounts: [{mount}]\ncontainer_workdir: {workdir}\n",
    "apptainer": "container: apptainer\nimage: {image}\nmounts: [{mount}]\ncontainer_workdir: {workdir}\n",
}
PROFILE = """
account: {text}
partition: {text}
qos: {text}
constraint: {text}
reservation: {text}
exclude: {text}
gres: {gres}
sbatch_args: [{comment}]
srun_args: [{mpi}]
interface: {text}
env: {{ODD: {text}}}
caches: {caches}
python: {text}
data: {{cifar10: {data}}}
results: {results}
"""


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_a_profile_says_reaches_sbatch_srun_and_the_ranks(
    profile: Callable[[str], str], tmp_path: Path, container: str
) -> None:
    (tmp_path / "commands").mkdir()
    for name, text in (("srun", SRUN.format(folder=shlex.quote(str(tmp_path)))), ("scontrol", SCONTROL)):
        (tmp_path / "commands" / name).write_text(text)
        (tmp_path / "commands" / name).chmod(0o755)
    commands = f"{tmp_path}/commands{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": commands, "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job"}
    for text in ("0123", 'it\'s  "$HOME" `id` $(id)', "a\\nb\\\\ %j-%% #c", "é;&|*[a],!", "~"):
        # In names of folders some signs are refused, as the next test has it.
        name = text.translate({ord(sign): "_" for sign in ' ,"\\'}) if container != "none" else text.replace("\\", "_")
        said = {
            "text": text, "gres": f"gpu:{text}:{{gpus}}", "comment": f"--comment={text}", "mpi": f"--mpi={text}",
            "caches": f"{tmp_path}/caches/{name}", "data": f"/{name}", "results": f"{tmp_path}/rows/{name}",
            "image": text, "mount": f"/m/{name}:/in/{name}", "workdir": f"/{text}",
        }  # fmt: skip
        made = (PROFILE + CONTAINERS[container]).format(**{key: quoted(value) for key, value in said.items()})
        line = ["depth=20", "dataset=cifar10", f"cluster={profile(made)}", "ranks_per_node=2", "mode=print"]
        (cell,) = make_plan("slurm", line).cells
        printed = script(cell)

        named = {name: value for name, _, value in (word.partition("=") for word in arguments(printed))}
        for option in ("account", "partition", "qos", "constraint", "reservation", "exclude", "comment"):
            assert named[f"--{option}"] == text, (option, text)
        assert named["--gres"] == f"gpu:{text}:2"

        done = subprocess.run(["bash", "-c", printed], env=variables, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        given = (tmp_path / "ARGUMENTS").read_text().split("\0")[:-1]
        seen = dict(entry.split("=", 1) for entry in (tmp_path / "VARIABLES").read_text().split("\0")[:-1])
        assert seen["ODD"] == seen["NCCL_SOCKET_IFNAME"] == seen["GLOO_SOCKET_IFNAME"] == text
        assert seen["TRITON_CACHE_DIR"] == f"{said['caches']}/triton" and os.path.isdir(seen["TRITON_CACHE_DIR"])
        assert f"--mpi={text}" in given
        log = f"{said['results']}/jobs/job-7".replace("%", "%%")  # as Slurm wants it
        assert f"--output={log}/%x-%j.0-%t.log" in given and os.path.isdir(f"{said['results']}/jobs/job-7")
        start = given.index("-m")
        assert given[start - 1] == text and given[start + 1] == "launch.job"
        (keys,) = grammar.parse([*given[start + 2 :], "nodes=1"], RunKeys)
        assert (keys.data, keys.results) == (said["data"], said["results"])
        if container == "pyxis":
            assert f"--container-image={text}" in given and f"--container-workdir=/{text}" in given
            (mounts,) = (word for word in given if word.startswith("--container-mounts="))
            assert mounts.endswith(f",{said['caches']}:{said['caches']},{said['mount']}")
            assert f"/{name}:/{name}," in mounts
        if container == "apptainer":
            assert given[start - 2] == text and given[given.index("--pwd") + 1] == f"/{text}"
            assert given[given.index("--bind") + 1].endswith(f",{said['caches']},{said['mount']}")


@pytest.mark.parametrize(
    ("container", "path", "sign"),
    [
        ("pyxis", "/a,b", ","), ("pyxis", "/a b", " "), ("pyxis", "/a:b", ":"), ("apptainer", "/a,b", ","),
        ("apptainer", '/a"b', '"'), ("apptainer", "/a:b", ":"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["data", "results", "caches"])
def test_a_folder_that_a_container_cannot_be_told_is_refused(
    profile: Callable[[str], str], container: str, path: str, sign: str, key: str
) -> None:
    value = f"{{cifar10: {quoted(path)}}}" if key == "data" else quoted(path)
    name = profile(f"container: {container}\nimage: a\n{key}: {value}\n")
    with pytest.raises(WordError) as raised:
        make_plan("slurm", ["depth=20", "dataset=cifar10", "data=/x", f"cluster={name}", "mode=print"]) if (
            key != "data"
        ) else make_plan("slurm", ["depth=20", "dataset=cifar10", f"cluster={name}", "mode=print"])
    assert f"cluster=mine: {key}={path} cannot be mounted: {container} takes {sign!r}" in str(raised.value)


def test_a_backslash_in_the_name_of_the_rows_is_refused(profile: Callable[[str], str]) -> None:
    for words, text in (([], "results: '/a\\b'"), (["results=/a\\b"], "qos: a")):
        with pytest.raises(WordError, match=r"results=/a\\b: Slurm writes no logs below a name with a backslash"):
            make_plan("slurm", ["depth=20", "dataset=digits", *words, f"cluster={profile(text)}", "mode=print"])
