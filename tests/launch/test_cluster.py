"""Site profiles: defaults, what each key may be, and the messages of what it may not."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from bench.config.grammar import WordError
from launch import cluster
from launch.cluster import ClusterConfig, load, profiles


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RESNET_BENCH_CLUSTERS", str(tmp_path))

    def write(text: str) -> ClusterConfig:
        (tmp_path / "mine.yaml").write_text(text)
        return load("mine")

    return write


def test_the_default_profile_has_every_key_and_the_example_explains_every_key() -> None:
    keys = {option.name for option in dataclasses.fields(ClusterConfig)} - {"name"}
    for name in ("default", "example"):
        assert set(yaml.safe_load((cluster.FOLDER / f"{name}.yaml").read_text())) == keys
        assert load(name).name == name
    assert load("default").gpus_per_node == 8


def test_a_profile_says_only_what_differs(profile) -> None:
    found = profile("partition: gpu\ngpus_per_node: 4\nsetup: [module load cuda]\ndata: {cifar10: /data/c10}\n")
    assert (found.partition, found.gpus_per_node, found.setup) == ("gpu", 4, ["module load cuda"])
    assert found.data == {"cifar10": "/data/c10"}
    assert found.cpus_per_task == load("default").cpus_per_task
    assert "mine" in profiles()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partiton: gpu", "'partiton', which is no key; nearest is partition"),
        ("gpus_per_node: many", "gpus_per_node=many, expected a whole number"),
        ("gpus_per_node: 0123", "gpus_per_node=0123, expected a whole number"),
        ("gpus_per_node: 8.0", "gpus_per_node=8.0, expected a whole number"),
        ("gpus_per_node:", "gpus_per_node is null, expected a text"),
        ("account: [a]", "account is a list, expected a text"),
        ("account: ''", "account is empty; leave it out"),
        ('account: "a\\n#SBATCH --qos=high"', "account=a\n#SBATCH --qos=high, expected one line without '\\n'"),
        ('python: "\\x1b[31m"', "expected one line without '\\x1b'"),
        ("account: a\naccount: b", "has account twice; leave one of them out"),
        ("account: !!int x", "account=x, expected it without the tag tag:yaml.org,2002:int"),
        ("setup: module load cuda", "setup=module load cuda, expected a list such as [a, b], or []"),
        ("setup: [{a: b}]", "setup, item 1 is a map, expected a text"),
        ("setup: &a [*a]", "setup, item 1 is a list, expected a text"),
        ("setup: [if true]", "setup: line 2: syntax error"),
        ("setup: [cat <<END]", "setup: line 1: warning: here-document"),
        ("setup: ['echo \\']", "setup: ends in a backslash"),
        ("data: [/x]", "data is a list, expected names with a value each, or {}"),
        ("data: {cifar10: }", "data of cifar10 is null, expected a text"),
        ("data: {cifar10: /a, cifar10: /b}", "data has cifar10 twice"),
        ("[" * 3000, "is nested too deep"),
        ("? [a]\n: b", "has 'a list or a map', which is no key"),
        ("gpus_per_node: -1", "gpus_per_node=-1, expected at least 0"),
        ("cpus_per_task: 0", "cpus_per_task=0, expected at least 1"),
        ('time: "soon"', "time=soon, expected HH:MM:SS"),
        ('time: "00:02:00"', "signal_lead_s=120 leaves nothing of time=00:02:00"),
        ("container: docker", "container=docker, expected one of none, pyxis, apptainer"),
        ("container: pyxis", "container=pyxis needs an image"),
        ("image: a", "image is of a container, and container=none"),
        ("mounts: [/a]", "mounts is of a container, and container=none"),
        ("mount_home: true", "mount_home is of a container, and container=none"),
        ("container_workdir: /a", "container_workdir is of a container, and container=none"),
        ("{container: pyxis, image: a, mounts: ['/a,b']}", "mounts has /a,b: pyxis takes ',' for the end of a path"),
        ("{container: pyxis, image: a, mounts: ['/a b:/c']}", "mounts has /a b:/c: pyxis takes ' ' for the end"),
        ("{container: apptainer, image: a, mounts: ['/a:/b:ro:x']}", "expected HOST or HOST:CONTAINER"),
        ("{container: pyxis, image: a, caches: '/a:b'}", "caches=/a:b cannot be mounted"),
        ("exclusive: yes", "exclusive=yes, expected true or false; nearest is true"),
        ("exclusive: Off", "exclusive=Off, expected true or false; nearest is false"),
        ("numa: 1", "numa=1, expected true or false; nearest is true"),
        ("exclusive: flase", "exclusive=flase, expected true or false; nearest is false"),
        ("{exclusive: false, mem: 0}", "mem=0 is all of a node, which exclusive=false leaves to others too"),
        ("mem: lots", "mem=lots, expected a node's memory such as 200G"),
        ("gres: gpu:h100:8", "gres=gpu:h100:8, expected {gpus} once"),
        ("gres: gpu:h100:8", "nearest is gres: gpu:h100:{gpus}"),
        ("gres: 'gpu:{gpu}'", "nearest is gres: gpu:{gpus}"),
        ("gres: 'gpu:{gpus},x:{gpus}'", "expected {gpus} once"),
        ("{gpus_per_node: 0, gres: 'gpu:{gpus}'}", "asks for GPUs, and gpus_per_node=0 has none"),
        ("{gpus_per_node: 0, numa: true}", "numa=true is about GPUs, and gpus_per_node=0 has none"),
        ("sbatch_args: [--nodes=2]", "sbatch_args has --nodes=2, but --nodes is decided by nodes= of the command line"),
        ("srun_args: [--export=ALL]", "srun_args has --export=ALL, but --export is decided by env"),
        ("{numa: true, srun_args: [--cpu-bind=cores]}", "--cpu-bind is decided by numa; nearest is the key numa"),
        ("{interface: ib0, env: {NCCL_SOCKET_IFNAME: a}}", "decided by another key; nearest is interface"),
        ("{gpus_per_node: 0, env: {DS_ACCELERATOR: a}}", "decided by another key; nearest is gpus_per_node"),
        ("{caches: /a, env: {TRITON_CACHE_DIR: /b}}", "decided by another key; nearest is caches"),
        ("env: {PYTHONPATH: /b}", "decided by another key; nearest is setup"),
        ("env: {A: ~}", "env of A is null, expected a text, in quotes"),
        ("constraint: [a|b]", "constraint is a list, expected a text, in quotes"),
        ("account: &a", "expected it without an anchor, the word behind &, or in quotes"),
        ("account: !a", "expected it without the tag !a, or in quotes"),
        ("account: a\n  b", "account=a b, expected it on one line of the file"),
        ("account: @a", "is not YAML: "),
        (
            "data: {cifar: /x}",
            "data of 'cifar', expected one of digits, cifar10, imagenet, imagefolder; nearest is cifar10",
        ),
        ("[1, 2", "is not YAML: "),
        ("- 1", "holds no keys"),
    ],
)
def test_a_wrong_profile_is_named_in_one_line(profile, text: str, message: str) -> None:
    with pytest.raises(WordError) as raised:
        profile(text)
    assert message in str(raised.value) and str(raised.value).startswith("cluster=mine: ")
    assert "\n" not in str(raised.value) or "\n" in message  # which the command shows in one line


def test_an_unknown_profile_is_named_with_the_nearest() -> None:
    with pytest.raises(WordError, match=r"^cluster=exampel: .*\(nearest: cluster=example\)$"):
        load("exampel")


def test_a_value_is_what_stands_in_the_file(profile) -> None:
    """Nothing is filled in, and nothing is taken for a number, a time or a flag."""
    found = profile(
        "account: 0123\nqos: no\npartition: 12:30\nconstraint: ${oc.env:HOME}\ntime: 12:00:00\n"
        "setup: ['export A=${HOME}/a:$PATH', \"if true; then\\n\\techo a\\nfi\"]\nexclude: ~\n"
    )
    assert (found.account, found.qos, found.partition, found.constraint) == ("0123", "no", "12:30", "${oc.env:HOME}")
    assert found.time_min == 720 and found.exclude is None
    assert found.setup == ["export A=${HOME}/a:$PATH", "if true; then\n\techo a\nfi"]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("10:30", 11),
        ("02:00:00", 120),
        ("00:10:01", 11),
        ("1-00", 1440),
        ("1-02:30", 1590),
        ("2-0:0:0", 2880),
    ],
)
def test_times_are_whole_minutes(profile, text: str, minutes: int) -> None:
    assert profile(f'time: "{text}"').time_min == minutes
