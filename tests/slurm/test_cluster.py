"""The tools of the throw-away Slurm: each does what it says, and its undoing undoes it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from throwaway import machines
from throwaway.cluster import Cluster
from throwaway.layout import CONTROLLER, ClusterError, until
from throwaway.settings import HIGH, LOW

pytestmark = pytest.mark.slurm

# Sends a mebibyte to an address from one machine, or says what comes of it in one word.
SEND = """\
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 4000), timeout=2) as line:
        line.settimeout(60)
        line.sendall(bytes(1 << 20))
        line.shutdown(socket.SHUT_WR)
        print(line.recv(9).decode())
except OSError as error:
    print(type(error).__name__)
"""
RECEIVE = """\
import socket
with socket.create_server(("", 4000)) as server:
    print("ready", flush=True)
    while True:
        line, _ = server.accept()
        while line.recv(1 << 16):
            pass
        line.sendall(b"received")
        line.close()
"""


@pytest.fixture
def receiver(slurm: Cluster, tmp_path: Path) -> None:
    """Lets n2 receive on port 4000, until all jobs are ended after the test."""
    log = tmp_path / "receiver.log"
    slurm.submit("--nodelist=n2", f"--output={log}", f"--wrap=exec {sys.executable} -uc '{RECEIVE}'")
    until(lambda: log.exists() and log.read_text() == "ready\n", "n2 receives")


# Connects, says so, and tells after what it hears.
HEAR = """\
import socket, sys
with socket.create_connection((sys.argv[1], 4000), timeout=5) as line:
    print("connected", flush=True)
    line.settimeout(4)
    try:
        print("heard", line.recv(9))
    except OSError as error:
        print(type(error).__name__)
"""
# One line of text that arrives, or nothing.
DATAGRAM = """\
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as line:
    line.bind(("", 4002))
    print("ready", flush=True)
    line.settimeout(2)
    try:
        print(line.recv(9).decode())
    except TimeoutError:
        print("nothing")
"""


def start(slurm: Cluster, node: str, script: str, *words: str) -> subprocess.Popen[str]:
    """Run a script in a node and wait for its first line."""
    command = [*machines.inside(slurm.layout, node), sys.executable, "-c", script, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() in ("connected\n", "ready\n")
    return process


def arrives(slurm: Cluster, sender: str, receiver: str) -> str:
    """What of a datagram arrives."""
    process = start(slurm, receiver, DATAGRAM)
    words = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'hello', ('{receiver}', 4002))"
    slurm.on(sender, sys.executable, "-c", words)
    return process.communicate()[0].strip()


def send(slurm: Cluster, node: str) -> str:
    return slurm.on(node, sys.executable, "-c", SEND, slurm.layout.address("n2")).stdout.strip()


def test_each_node_is_a_machine_of_its_own(slurm: Cluster) -> None:
    said = slurm.call("srun", "--nodes=4", "--label", "hostname").stdout
    assert sorted(said.splitlines()) == [f"{index}: n{index + 1}" for index in range(4)]
    for node in slurm.nodes:
        shown = slurm.on(node, "ip", "-o", "-4", "addr", "show", "eth0").stdout
        assert f" {slurm.layout.address(node)}/24 " in shown
        found = {slurm.on(node, "getent", "hosts", other).stdout.split()[0] for other in slurm.nodes}
        assert found == {slurm.layout.address(other) for other in slurm.nodes}
        names = slurm.on(node, "ps", "-eo", "comm=").stdout.split()
        assert names[0] == "sleep" and names.count("slurmd") == 1 and "slurmctld" not in names
    for space in ("mnt", "uts", "ipc", "net", "pid"):
        of = [slurm.on(node, "readlink", f"/proc/self/ns/{space}").stdout for node in slurm.nodes]
        assert len({*of, slurm.call("readlink", f"/proc/self/ns/{space}").stdout}) == 5, space


def test_shared_memory_and_the_first_process_are_a_node_s_own(slurm: Cluster) -> None:
    shared = Path("/dev/shm", f"of-n1-{os.getpid()}")
    slurm.on("n1", "touch", str(shared))
    assert not shared.exists() and slurm.on("n2", "ls", "/dev/shm").stdout == ""
    # A process whose parent is gone leaves no zombie behind.
    slurm.on("n1", "setsid", "--fork", "sleep", "0.1")
    until(lambda: slurm.on("n1", "ps", "-eo", "comm=").stdout.split().count("sleep") == 1, "the orphan is gone", 5)


def test_the_settings_that_tests_rely_on(slurm: Cluster) -> None:
    lines = slurm.call("scontrol", "show", "config").stdout.splitlines()
    settings = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    expected = {
        "SlurmdTimeout": "30 sec", "KillWait": "30 sec", "MinJobAge": "3600 sec", "MaxArraySize": "1001",
        "TaskPlugin": "task/none", "ProctrackType": "proctrack/linuxproc", "PreemptMode": "REQUEUE",
        "AccountingStorageEnforce": "associations,limits,qos", "JobAcctGatherType": "jobacct_gather/linux",
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    low = slurm.call("scontrol", "show", "-o", "partition", LOW).stdout.split()
    high = slurm.call("scontrol", "show", "-o", "partition", HIGH).stdout.split()
    assert {"Default=YES", "PreemptMode=REQUEUE", "GraceTime=20", "PriorityTier=1"} <= set(low)
    assert {"Default=NO", "PreemptMode=OFF", "PriorityTier=10"} <= set(high)


def test_jobs_are_waited_for_and_accounted(slurm: Cluster, tmp_path: Path) -> None:
    words = ("--gpus-per-node=pretend:2", f"--output={tmp_path}/log", "--wrap=echo $CUDA_VISIBLE_DEVICES; srun sleep 1")
    job_id = slurm.submit(*words)
    assert slurm.wait(job_id, "RUNNING") == "RUNNING"
    assert slurm.wait(job_id) == "COMPLETED" and slurm.job(job_id)["JobId"] == job_id
    assert (tmp_path / "log").read_text() == "0,1\n"
    fields = ("JobID", "State", "ExitCode", "Account", "User", "AllocTRES")
    until(lambda: [row["State"] for row in slurm.sacct(job_id, *fields)] == ["COMPLETED"] * 3, "accounting has it", 20)
    rows = slurm.sacct(job_id, *fields)
    assert [row["JobID"] for row in rows] == [job_id, f"{job_id}.batch", f"{job_id}.0"]
    assert (rows[0]["ExitCode"], rows[0]["Account"], rows[0]["User"]) == ("0:0", "bench", "root")
    assert "gres/gpu=2" in rows[0]["AllocTRES"].split(",")
    failed = slurm.submit("--wrap=exit 3")
    with pytest.raises(ClusterError, match=f"job {failed} is FAILED, expected COMPLETED"):
        slurm.wait(failed, "COMPLETED")
    with pytest.raises(ClusterError, match="is over: still not so after 1 s"):
        slurm.wait(slurm.submit("--wrap=sleep 60"), patience_s=1)


def test_more_tasks_than_cores_run_and_more_gpus_than_there_are_do_not(slurm: Cluster) -> None:
    assert len(slurm.call("srun", "--nodes=1", "--ntasks=16", "hostname").stdout.split()) == 16
    done = slurm.call("srun", "--nodes=1", "--gpus-per-node=pretend:5", "hostname", check=False)
    assert done.returncode and "not available" in done.stderr


def test_a_command_that_fails_says_how(slurm: Cluster) -> None:
    with pytest.raises(ClusterError, match="^scontrol show job -o 999999: status 1: .*Invalid job id"):
        slurm.job("999999")
    with pytest.raises(ClusterError, match="^n9: no such machine; choose from ctl, n1, n2, n3, n4$"):
        slurm.on("n9", "true")


def test_power_is_cut_and_comes_again(slurm: Cluster, receiver: None) -> None:
    job_id = slurm.submit("--nodelist=n2", "--requeue", "--wrap=sleep 600")
    card = ["ip", "-o", "link", "show", "eth0"]
    (hardware,) = re.findall("link/ether (.{17})", slurm.on("n2", *card).stdout)
    slurm.wait(job_id, "RUNNING")
    began = time.monotonic()
    assert send(slurm, "n1") == "received"
    first = machines.alive(slurm.layout, "n2")
    connected = start(slurm, "n1", HEAR, slurm.layout.address("n2"))
    slurm.power_off("n2")
    assert not machines.processes(slurm.layout.folder, "n2") and machines.processes(slurm.layout.folder, "n1")
    with pytest.raises(ClusterError, match="^n2 is off$"):
        slurm.on("n2", "true")
    # A machine without power neither ends its connections nor refuses new ones.
    assert connected.communicate()[0] == "TimeoutError\n"
    assert send(slurm, "n1") in ("TimeoutError", "OSError")
    time.sleep(max(0.0, began + 22 - time.monotonic()))  # by then the controller knows that the job had begun
    slurm.power_on("n2")
    assert machines.alive(slurm.layout, "n2") != first
    assert send(slurm, "n1") == "ConnectionRefusedError"  # by the node, at its old address
    assert hardware in slurm.on("n2", *card).stdout  # or who knew it from before would not find it at once
    # As after the reboot of a true machine, the job that was lost with it begins again.
    assert slurm.wait(job_id, "PENDING", patience_s=10) and slurm.job(job_id)["Restarts"] == "1"
    assert slurm.call("srun", "--nodelist=n2", "hostname").stdout == "n2\n"


def test_the_network_between_two_nodes_is_cut_and_heals(slurm: Cluster, receiver: None) -> None:
    assert send(slurm, "n1") == "received"
    slurm.cut("n1", "n2")
    slurm.cut("n1", "n2")
    assert send(slurm, "n1") == "TimeoutError"
    assert send(slurm, "n3") == "received"
    assert arrives(slurm, "n1", "n2") == arrives(slurm, "n2", "n1") == "nothing"
    assert arrives(slurm, "n1", "n3") == arrives(slurm, "n3", "n2") == "hello"
    slurm.heal("n2", "n1")
    assert send(slurm, "n1") == "received"
    slurm.heal("n2", "n1")


def test_a_node_and_the_controller_are_cut(slurm: Cluster) -> None:
    ping = ["timeout", "20", "scontrol", "ping"]
    assert " is UP" in slurm.on("n1", *ping).stdout
    slurm.cut("n1", CONTROLLER)
    assert " is UP" not in slurm.on("n1", *ping, check=False).stdout
    assert " is UP" in slurm.on("n2", *ping).stdout
    slurm.heal("n1", CONTROLLER)
    assert " is UP" in slurm.on("n1", *ping).stdout


@pytest.mark.parametrize("limited", ["n1", "n2"])
def test_a_link_has_a_limited_rate(slurm: Cluster, receiver: None, limited: str) -> None:
    def seconds() -> float:
        began = time.monotonic()
        assert send(slurm, "n1") == "received"
        return time.monotonic() - began

    bits = 8 * (1 << 20)
    slurm.limit_rate(limited, "4mbit")
    # The bucket lets its 32 KiB through at once, and there is time for other work on this machine.
    assert bits / 4e6 * 0.9 < seconds() < 20
    slurm.limit_rate(limited, None)
    assert seconds() < bits / 4e6 * 0.9


def test_a_folder_is_hidden_on_one_node(slurm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    listed = ["ls", str(tmp_path)]
    with slurm.hidden("n1", tmp_path):
        assert slurm.on("n1", *listed).stdout == ""
        assert slurm.call("srun", "--nodelist=n1", *listed).stdout == ""
        assert slurm.on("n2", *listed).stdout == "file\n" and (tmp_path / "file").exists()
    assert slurm.on("n1", *listed).stdout == "file\n"


def test_a_port_is_taken_on_one_node(slurm: Cluster) -> None:
    bind = [sys.executable, "-c", "import socket; socket.create_server(('', 4001))"]
    with slurm.listener("n1", 4001):
        done = slurm.on("n1", *bind, check=False)
        assert done.returncode == 1 and "Address already in use" in done.stderr
        slurm.on("n2", *bind)
        with pytest.raises(ClusterError, match="^port 4001 of n1 cannot be listened on$"):
            with slurm.listener("n1", 4001):
                pass
    slurm.on("n1", *bind)


def test_a_partition_goes_down_and_up(slurm: Cluster) -> None:
    slurm.partition(LOW, "DOWN")
    job_id = slurm.submit("--wrap=true")
    until(lambda: slurm.job(job_id)["Reason"] == "PartitionDown", "the job waits for the partition")
    slurm.partition(LOW, "UP")
    assert slurm.wait(job_id) == "COMPLETED"


def test_a_user_may_submit_no_more_than_so_many(slurm: Cluster) -> None:
    slurm.max_submit(1)
    slurm.submit("--wrap=sleep 60")
    with pytest.raises(ClusterError, match="AssocMaxSubmitJobLimit"):
        slurm.submit("--wrap=true")
    slurm.max_submit(None)
    assert slurm.wait(slurm.submit("--wrap=true")) == "COMPLETED"


def test_the_controller_starts_again_and_knows_its_jobs(slurm: Cluster) -> None:
    job_id = slurm.submit("--wrap=sleep 5")
    slurm.wait(job_id, "RUNNING")
    slurm.stop_controller()
    assert "slurmctld" not in machines.members(slurm.layout, CONTROLLER).values()
    slurm.start_controller()
    assert slurm.wait(job_id) == "COMPLETED"


def test_a_partition_preempts_the_other(slurm: Cluster) -> None:
    low = slurm.submit("--requeue", "--nodes=4", "--exclusive", "--wrap=sleep 600")
    slurm.wait(low, "RUNNING")
    high = slurm.submit(f"--partition={HIGH}", "--nodes=1", "--exclusive", "--wrap=sleep 1")
    assert slurm.wait(high) == "COMPLETED"
    assert slurm.wait(low, "PENDING") == "PENDING"
    assert slurm.job(low)["Restarts"] == "1"
    slurm.start_now(low)
    assert slurm.wait(low, "RUNNING", patience_s=30) == "RUNNING"


def test_the_next_test_finds_nothing_of_the_last(slurm: Cluster, tmp_path: Path) -> None:
    slurm.power_off("n4")
    slurm.cut("n1", "n2")
    slurm.limit_rate("n3", "1mbit")
    slurm.partition(HIGH, "DOWN")
    slurm.max_submit(3)
    slurm.submit("--wrap=sleep 600")
    slurm.restore()
    assert len(slurm.call("srun", "--nodes=4", f"--partition={HIGH}", "hostname", timeout=60).stdout.split()) == 4
    assert "tbf" not in slurm.on("n3", "tc", "qdisc", "show").stdout
    assert slurm.on("n1", "nft", "list", "ruleset").stdout == ""
    for _ in range(4):
        slurm.submit("--wrap=true")
    slurm.stop_controller(signal.SIGKILL)
    slurm.restore()
    assert slurm.call("squeue", "--noheader").stdout == ""
