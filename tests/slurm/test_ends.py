"""How jobs end on a true Slurm: each within its time, with a row that says why, and with no node held."""

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_launch import WORDS, launch, logs
from throwaway.cluster import Cluster
from throwaway.layout import until
from throwaway.settings import HIGH

from bench.config.paths import ROOT
from results.store.files import read_rows

pytestmark = pytest.mark.slurm

# So many epochs that no run ends by itself.
ENDLESS = "epochs=5000"


def row_of(rows: Path) -> dict[str, object]:
    (row,) = read_rows(rows, "runs")[0]
    return row


def start(slurm: Cluster, rows: Path, *words: str) -> str:
    """A job whose ranks train."""
    job_id = launch(slurm, *words, ENDLESS, f"results={rows}").stdout.split()[1]
    trains = lambda: any(b'"steps"' in path.read_bytes() for path in rows.glob("journal/*.jsonl"))  # noqa: E731
    until(trains, "steps are journalled", 240)
    return job_id


@contextlib.contextmanager
def blackhole(slurm: Cluster, one: str, other: str) -> Iterator[None]:
    """Let two nodes have no route to each other."""
    ways = [(one, slurm.layout.address(other)), (other, slurm.layout.address(one))]
    for node, address in ways:
        slurm.on(node, "ip", "route", "add", "blackhole", address)
    try:
        yield
    finally:
        for node, address in ways:
            slurm.on(node, "ip", "route", "del", "blackhole", address)


def queue_is_empty(slurm: Cluster) -> bool:
    return not slurm.call("squeue", "--noheader").stdout


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("n2", "n3", "rank 1 (n2) and rank 2 (n3) cannot reach one another"),
        ("n1", "n3", "rank 0 (n1) and rank 2 (n3) cannot reach one another"),
    ],
)
def test_a_cut_between_two_nodes_ends_the_job_and_names_them(
    slurm: Cluster, tmp_path: Path, one: str, other: str, said: str
) -> None:
    start(slurm, tmp_path / "rows", "nodes=3")
    with blackhole(slurm, one, other):
        began = time.monotonic()
        until(lambda: read_rows(tmp_path / "rows", "runs")[0], "the row is there", 60)
        row_s = time.monotonic() - began
        until(lambda: queue_is_empty(slurm), "the queue is empty", 90 - row_s)
        print(f"row after {row_s:.1f} s, queue empty after {time.monotonic() - began:.1f} s")
    row = row_of(tmp_path / "rows")
    assert (row["status"], row["failure_kind"]) == ("failed", "network")
    assert str(row["failure_message"]).startswith(said), logs(tmp_path)


def test_a_job_that_is_cancelled_after_a_cut_leaves_its_row(slurm: Cluster, tmp_path: Path) -> None:
    job_id = start(slurm, tmp_path / "rows", "nodes=3")
    with blackhole(slurm, "n1", "n2"):
        time.sleep(5)
        slurm.call("scancel", job_id)
        began = time.monotonic()
        until(lambda: read_rows(tmp_path / "rows", "runs")[0], "the row is there", 30)  # KillWait
        print(f"row after {time.monotonic() - began:.1f} s")
        until(lambda: queue_is_empty(slurm), "the queue is empty", 60)
    row = row_of(tmp_path / "rows")
    assert (row["status"], row["failure_kind"]) == ("killed", "interrupted"), row["failure_message"]
    assert str(row["failure_message"]).endswith("was stopped by SIGTERM: the job was cancelled")


def test_a_rank_that_is_killed_is_named(slurm: Cluster, tmp_path: Path) -> None:
    job_id = start(slurm, tmp_path / "rows", "nodes=3")
    slurm.on("n2", "pkill", "-KILL", "-f", "submitit.core._submit")
    began = time.monotonic()
    assert slurm.wait(job_id, patience_s=60) == "FAILED"
    print(f"job over after {time.monotonic() - began:.1f} s")
    row = row_of(tmp_path / "rows")
    assert (row["status"], row["failure_kind"]) == ("failed", "rank_lost"), row["failure_message"]
    assert str(row["failure_message"]).startswith("rank 1 (n2) ended without a word"), logs(tmp_path)


def test_a_node_that_loses_its_power_is_named(slurm: Cluster, tmp_path: Path) -> None:
    start(slurm, tmp_path / "rows", "nodes=3")
    slurm.power_off("n3")
    began = time.monotonic()
    until(lambda: read_rows(tmp_path / "rows", "runs")[0], "the row is there", 60)
    row_s = time.monotonic() - began
    until(lambda: queue_is_empty(slurm), "the queue is empty", 90 - row_s)
    print(f"row after {row_s:.1f} s, queue empty after {time.monotonic() - began:.1f} s")
    row = row_of(tmp_path / "rows")
    assert row["failure_kind"] == "rank_lost", row["failure_message"]
    assert str(row["failure_message"]).startswith("rank 2 (n3) can be reached from no other node")


def test_a_preempted_job_says_so(slurm: Cluster, tmp_path: Path) -> None:
    job_id = start(slurm, tmp_path / "rows", "nodes=2")
    slurm.submit("--nodes=4", "--exclusive", f"--partition={HIGH}", "--wrap=true")
    slurm.wait(job_id, patience_s=60)
    row = row_of(tmp_path / "rows")
    assert (row["status"], row["failure_kind"]) == ("killed", "preempted"), row["failure_message"]


def test_a_full_disk_ends_a_run_and_leaves_its_siblings_and_earlier_files(slurm: Cluster, tmp_path: Path) -> None:
    save = tmp_path / "small"
    save.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(save)]
    slurm.on("n1", *small)
    try:
        job_id = launch(
            slurm, "nodes=1", ENDLESS, f"results={tmp_path}/rows", f"save={save}/a.safetensors"
        ).stdout.split()[1]
        slurm.wait(job_id, "RUNNING")
        found = lambda: slurm.on("n1", "ls", str(save)).stdout.split()  # noqa: E731
        until(lambda: "a.safetensors" in found(), "a checkpoint is there", 120)
        slurm.on("n1", "sh", "-c", f"head -c 2000000 /dev/zero > {save}/filler", check=False)
        sibling = launch(slurm, "nodes=1", "steps=4", "seed=1", f"results={tmp_path}/others").stdout.split()[1]
        assert slurm.wait(job_id, patience_s=60) == "FAILED"
        assert slurm.wait(sibling) == "COMPLETED", logs(tmp_path)
        row = row_of(tmp_path / "rows")
        assert (row["status"], row["failure_kind"]) == ("failed", "storage"), row["failure_message"]
        python = "import sys; from safetensors import safe_open; safe_open(sys.argv[1], 'pt').keys()"
        slurm.on("n1", sys.executable, "-c", python, f"{save}/a.safetensors")
    finally:
        slurm.on("n1", "umount", "--lazy", str(save))


@contextlib.contextmanager
def named_as_loopback(slurm: Cluster, folder: Path) -> Iterator[None]:
    """Let each node's own name be 127.0.1.1 on it, as Debian has it."""
    folder.mkdir()
    hosts = (slurm.layout.folder / "hosts").read_text()
    for node in slurm.nodes:
        text = re.sub(rf"^\S+ {node}$", f"127.0.1.1 {node}", hosts, flags=re.MULTILINE)
        (folder / node).write_text(text)
        slurm.on(node, "mount", "--bind", str(folder / node), "/etc/hosts")
    try:
        yield
    finally:
        for node in slurm.nodes:
            slurm.on(node, "umount", "/etc/hosts")


@pytest.mark.parametrize(
    ("interface", "said"),
    [
        ("", ""),
        ("interface: eth0\n", ""),
        (
            "interface: lo\n",
            "interface=lo of the site profile leads to no other node from n1: name the network between",
        ),
        ("interface: ib0\n", "interface=ib0 of the site profile is not there on n1: name the network between"),
    ],
    ids=["none", "eth0", "lo", "ib0"],
)
def test_nodes_whose_own_name_is_the_loopback_meet_or_say_what_to_set(
    slurm: Cluster, tmp_path: Path, interface: str, said: str
) -> None:
    profile = slurm.layout.profiles / "loopback.yaml"
    profile.write_text((slurm.layout.profiles / "throwaway.yaml").read_text().replace("interface: eth0\n", interface))
    with named_as_loopback(slurm, tmp_path / "hosts"):
        words = [*WORDS[:-1], "cluster=loopback", "nodes=2", "steps=4", f"results={tmp_path}/rows"]
        said_of_it = slurm.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *words)
        job_id = said_of_it.stdout.split()[1]
        ended = slurm.wait(job_id)
    row = row_of(tmp_path / "rows")
    if said:
        assert (ended, row["failure_kind"]) == ("FAILED", "network")
        assert said in str(row["failure_message"]) and "(eth0)" in str(row["failure_message"])
    else:
        assert (ended, row["status"]) == ("COMPLETED", "completed"), logs(tmp_path)


def test_ports_that_are_taken_are_left_for_others(slurm: Cluster, tmp_path: Path) -> None:
    before = slurm.submit("--nodes=1", "--wrap=true")
    port = 10000 + (int(before) + 2) % 20000  # that of --test-only is the next one
    with slurm.listener("n1", port), slurm.listener("n1", port + 1):
        job_id = launch(slurm, "nodes=2", "steps=4", f"results={tmp_path}/rows").stdout.split()[1]
        assert int(job_id) == int(before) + 2
        assert slurm.wait(job_id) == "COMPLETED", logs(tmp_path)
    assert row_of(tmp_path / "rows")["status"] == "completed"
