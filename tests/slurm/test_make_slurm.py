"""`make slurm-up`, `make slurm-down` and `make test-slurm`: what they say, and that nothing is left of them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import make_slurm
import psutil
import pytest
from throwaway import lifetime, machines, network, packages, settings
from throwaway.cluster import Cluster
from throwaway.layout import CONTROLLER, ClusterError, Layout, prefix, run, until

SCRIPT = [sys.executable, make_slurm.__file__]
DAEMONS = {
    "munged", "mariadbd", "mariadb-install", "slurmdbd", "slurmctld", "slurmscriptd", "slurmd", "slurmstepd", "unshare",
    "nsenter",
}  # fmt: skip


def traces() -> dict[str, set[str]]:
    """What a cluster can leave on this machine outside its folder, and the folders."""
    running = [(one.pid, one.info["name"], one.info["cmdline"]) for one in psutil.process_iter(["name", "cmdline"])]
    idle = ["sleep", "infinity"]
    return {
        "links": {link["ifname"] for link in json.loads(run("ip", "-json", "link", "show").stdout)},
        "routes": {*run("ip", "route", "show", "table", "all").stdout.splitlines()},
        "named": {*os.listdir("/run/netns")} if os.path.exists("/run/netns") else set(),
        "mounts": {*Path("/proc/mounts").read_text().splitlines()},
        "processes": {f"{pid} {name}" for pid, name, line in running if name in DAEMONS or line == idle},
        "folders": {str(path) for path in Path("/tmp").glob("slurm-*")},
    }


def left(before: dict[str, set[str]]) -> dict[str, set[str]]:
    """What there is that was not there before."""
    return {name: found - before[name] for name, found in traces().items() if found - before[name]}


@pytest.fixture
def folder(slurm_of_session: Cluster) -> Iterator[Path]:
    """Where a second cluster may lie beside that of the tests, of which nothing is left after the test."""
    before = traces()
    path = Path("/tmp", f"slurm-second-{os.getpid()}")
    yield path
    try:
        # Whoever inherits a dead process takes a moment to notice.
        until(lambda: not left(before), "nothing is left", 10)
    finally:
        found = left(before)
        lifetime.down(path)
        assert not found


def call(*words: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*before, *SCRIPT, *map(str, words)], capture_output=True, text=True)


@pytest.mark.slurm
def test_up_and_down_twice_beside_another_cluster(folder: Path, slurm: Cluster) -> None:
    # A machine whose name nobody resolves.
    nameless = ("unshare", "--uts", "sh", "-c", 'hostname nobody-knows && exec "$@"', "sh")
    done = call("up", folder, before=nameless)
    assert done.returncode == 0, done.stderr
    assert f"export SLURM_CONF={folder}/slurm.conf RESNET_BENCH_CLUSTERS={folder}/profiles\n" in done.stdout
    assert f"folder {folder}, logs {folder}/logs; make slurm-down ends it" in done.stdout
    assert packages.services() in done.stdout
    (up_s,) = re.findall(r"^slurm-up: up after (\d+\.\d) s$", done.stdout, re.M)
    second = Cluster(Layout.load(folder))
    assert second.layout.network != slurm.layout.network
    (line,) = [line for line in done.stdout.splitlines() if "srun" in line]
    for where in (second, slurm):
        assert sorted(where.call(*line.split()).stdout.split()) == ["n1", "n2", "n3", "n4"]
        assert len(where.call("squeue", "--noheader", "--states=all").stdout.splitlines()) >= 1
    again = call("up", folder)
    usage = done.stdout.partition(" s\n    export")[2]
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "slurm-up: it is up already")
    assert usage and again.stdout.endswith(usage)
    # A node that is dead, and a job on another.
    second.power_off("n2")
    second.submit("--nodelist=n1", "--wrap=sleep 600")
    done = call("down", folder)
    assert done.returncode == 0, done.stderr
    (down_s,) = re.findall(rf"^slurm-down: {folder} is gone after (\d+\.\d) s$", done.stdout, re.M)
    print(f"up {up_s} s, down {down_s} s")
    done = call("down", folder)
    assert (done.returncode, done.stdout) == (0, f"slurm-down: there is none in {folder}\n")
    assert slurm.call("srun", "--nodes=4", "hostname").stdout


@pytest.mark.slurm
@pytest.mark.parametrize("reached", ["layout.json", "logs/ctl.mariadbd.out", "logs/ctl.slurmctld.out"])
def test_down_ends_what_a_killed_start_left(folder: Path, reached: str) -> None:
    with subprocess.Popen([*SCRIPT, "up", str(folder)], stdout=subprocess.DEVNULL) as starting:
        until((folder / reached).exists, f"{reached} is there", 60)
        refused = [call(verb, folder) for verb in ("up", "down")]
        starting.kill()
    for verb, then, done in zip(("up", "down"), ("wait for that", "end that first"), refused, strict=True):
        assert (done.returncode, done.stderr) == (1, f"slurm-{verb}: {folder} is being brought up; {then}\n")
    done = call("up", folder)
    assert done.returncode == 1 and done.stderr.endswith("is what is left of another one; make slurm-down ends it\n")
    assert network.links(folder) and lifetime.state(folder) == "broken"
    assert call("down", folder).returncode == 0


@pytest.mark.slurm
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_start_that_is_stopped_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    with subprocess.Popen([*SCRIPT, "up", str(folder)], stdout=subprocess.DEVNULL) as starting:
        until((folder / "logs/n4.boot.out").exists, "the last machine is on", 60)
        starting.send_signal(number)
    assert starting.returncode == 128 + number and not folder.exists()


@pytest.mark.slurm
def test_a_start_that_fails_says_why_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SLURMDBD", settings.SLURMDBD.replace("storage/mysql", "storage/nothing"))
    with pytest.raises(ClusterError, match="^slurmdbd has ended by itself\n") as error:
        lifetime.up(folder)
    assert re.search("^slurmdbd.log: .*storage/nothing", str(error.value), re.M) and not folder.exists()


@pytest.mark.slurm
def test_down_ends_a_cluster_whose_folder_or_controller_is_gone(folder: Path) -> None:
    layout = lifetime.up(folder, nodes=1)
    machines.kill(folder, CONTROLLER)
    assert lifetime.state(folder) == "broken"
    run("rm", "-r", str(folder))
    assert lifetime.state(folder) == "broken" and machines.first(layout, "n1")
    assert lifetime.down(folder) and lifetime.state(folder) == "none"


@pytest.mark.slurm
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_test_slurm_leaves_nothing_however_it_ends(folder: Path, number: signal.Signals, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != make_slurm.VARIABLE}
    before = traces()["folders"]
    words = [*SCRIPT, "test", "-k", "test_the_settings_that_tests_rely_on", "-p", "no:cacheprovider"]
    with open(tmp_path / "log", "w") as log, subprocess.Popen(
        words, env=environment, stdout=log, stderr=log, start_new_session=True
    ) as guard:  # fmt: skip
        until(lambda: traces()["folders"] - before, "there is a folder", 60)
        (made,) = [Path(path) for path in traces()["folders"] - before]
        until((made / "logs" / "n1.boot.out").exists, "a cluster is being brought up", 60)
        if number == signal.SIGKILL:
            (tests,) = [one for one in psutil.Process(guard.pid).children() if "pytest" in one.cmdline()]
            tests.kill()
        elif number == signal.SIGINT:
            os.killpg(guard.pid, number)  # as a terminal does
        else:
            guard.send_signal(number)
        guard.wait(60)
    assert guard.returncode == {signal.SIGKILL: 137, signal.SIGINT: 2, signal.SIGTERM: 2}[number]
    assert not made.exists()


@pytest.mark.slow
def test_without_a_slurm_its_tests_are_skipped_with_a_reason() -> None:
    environment = {name: value for name, value in os.environ.items() if name != make_slurm.VARIABLE}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/slurm/test_cluster.py"]
    done = subprocess.run(
        [sys.executable, *words], cwd=make_slurm.ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "needs a real Slurm, which make test-slurm brings up" in done.stdout
    assert re.search(r"^\d+ skipped in ", done.stdout, re.M) and "passed" not in done.stdout


def test_where_it_may_not_be_it_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda *words, **_: started.append(words))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "missing", lambda: ["slurmctld", "slurmd", "munged"])
    lacks = "; not installed: slurmctld, slurmd, munged (Debian: apt-get install slurm-wlm munge)\n"
    root = "makes namespaces and network links, which needs root"
    assert make_slurm.main(["up", str(tmp_path / "x")]) == 1 and capsys.readouterr().err == f"slurm-up: {root}{lacks}"
    assert make_slurm.main(["test"]) == 1 and capsys.readouterr().err == f"test-slurm: {root}{lacks}"
    assert make_slurm.main(["down", str(tmp_path / "x")]) == 1 and "slurm-down: only root" in capsys.readouterr().err
    monkeypatch.setattr(packages, "missing", lambda: [])
    assert make_slurm.main(["up", str(tmp_path / "x")]) == 1 and capsys.readouterr().err == f"slurm-up: {root}\n"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "missing", lambda: ["slurmctld", "slurmd", "munged"])
    monkeypatch.setattr(packages, "SEARCH", str(tmp_path))
    with pytest.raises(ClusterError) as error:
        packages.install()
    assert str(error.value) + "\n" == f"there is no apt-get here to install what is missing{lacks}"
    assert not started


def test_what_is_missing_is_installed_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(packages, "SEARCH", os.environ["PATH"])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    answers = [["nft", "slurmctld", "slurmd"], []]
    monkeypatch.setattr(packages, "missing", lambda: answers.pop(0))
    assert packages.install() is True
    asked = (tmp_path / "asked").read_text()
    assert asked == "update -q\ninstall -q -y --no-install-recommends nftables slurm-wlm\n"
    answers[:] = [[]]
    assert packages.install() is False and (tmp_path / "asked").read_text() == asked
    answers[:] = [["nft"], ["nft"]]
    with pytest.raises(ClusterError, match="^nftables are installed, and still there is no nft$"):
        packages.install()


def test_enabled_services_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "BOOTED", tmp_path / "none")
    assert packages.services() == "no systemd runs here, so that no service of the packages starts with the machine"
    monkeypatch.setattr(packages, "BOOTED", tmp_path)
    said = {"munge": "enabled\n", "slurmd": "masked\n", "slurmctld": "enabled\n"}
    asked = lambda *words, **_: subprocess.CompletedProcess(words, 0, said.get(words[-1], ""), "")  # noqa: E731
    monkeypatch.setattr(packages, "run", asked)
    wanted = "the packages enabled in systemd: munge slurmctld (`systemctl disable --now munge slurmctld` ends them)"
    assert packages.services() == wanted
    said.clear()
    assert packages.services() == "none of the packages' services is enabled in systemd"


@pytest.mark.parametrize("words", [[], ["start"], ["up", "/tmp/a", "/tmp/b"], ["down", "/tmp/a", "now"]])
def test_words_that_are_none(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert make_slurm.main(words) == 2
    said = capsys.readouterr().err
    assert said == f"{' '.join(words)}: expected up [FOLDER], down [FOLDER] or test [WORDS OF PYTEST]\n"


def test_two_checkouts_never_share_a_name() -> None:
    one, other = (make_slurm.folder_of(Path(path)) for path in ("/home/one/bench", "/home/other/bench"))
    assert one != other and prefix(one) != prefix(other)
    most = Layout(folder=Path("/tmp", "x" * 70), network="10.77.0", nodes=200)
    assert len(most.link("n200")) <= 15 and most.address("n200") == "10.77.0.210"
    assert len({most.address(name) for name in (*most.names, CONTROLLER, "host")}) == 202


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"nodes": 0}, "nodes=0, expected 1 to 200"),
        ({"nodes": 201}, "nodes=201, expected 1 to 200"),
        ({"folder": Path("/tmp", "x" * 76)}, "at most 80 bytes, since sockets lie in it; try one in /tmp"),
    ],
)
def test_sizes_that_cannot_be(sizes: dict[str, int], said: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=said):
        Layout(**{"folder": Path("/tmp/x"), "network": "", **sizes})  # type: ignore[arg-type]


def test_a_folder_with_something_in_it_is_refused_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("/tmp", f"slurm-full-{os.getpid()}")
    folder.mkdir()
    try:
        (folder / "mine").touch()
        monkeypatch.setattr(lifetime, "_up", lambda *_: pytest.fail("it was brought up"))
        with pytest.raises(ClusterError, match=f"^{folder} is not empty$"):
            lifetime.up(folder)
        assert lifetime.state(folder) == "none" and not lifetime.down(folder) and (folder / "mine").exists()
        monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
        with pytest.raises(ClusterError, match=f"^{folder} is somebody else's$"):
            lifetime.up(folder)
    finally:
        run("rm", "-rf", str(folder))


def test_sizes_reach_slurm_s_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[str] = []
    monkeypatch.setattr(os, "mknod", lambda path, mode, device: made.append(Path(path).name))
    folder = tmp_path / "x"
    folder.mkdir()
    layout = Layout(
        folder=Path("/tmp/x"), network="10.77.9", nodes=3, cpus=5, memory_mb=70, gpus=2, max_array=17, grace_s=9
    )
    monkeypatch.setattr(Layout, "__post_init__", lambda _: None)  # pytest's folders have long names
    layout = Layout(**{**vars(layout), "folder": folder})
    settings.write(layout)
    layout.save()
    assert Layout.load(folder) == layout
    conf = (folder / "slurm.conf").read_text()
    node = "NodeName=n[1-3] NodeAddr=10.77.9.[11-13] CPUs=5 RealMemory=70 Gres=gpu:pretend:2\n"
    assert node in conf and "MaxArraySize=17\n" in conf and "GraceTime=9 " in conf
    assert made == ["gpu0", "gpu1"] and "gpu[0-1]" in (folder / "gres.conf").read_text()
    assert "10.77.9.13 n3\n" in (folder / "hosts").read_text()
    assert (folder / "munge.key").stat().st_mode & 0o777 == 0o400
    assert (folder / "slurmdbd.conf").stat().st_mode & 0o777 == 0o600


def test_a_network_is_chosen_that_nobody_has() -> None:
    from ipaddress import IPv4Network as Network

    assert network.free([]) == "10.77.0"
    assert network.free([Network("10.77.0.0/24"), Network("10.77.1.128/25"), Network("10.77.2.1/32")]) == "10.77.3"
    assert network.free([Network("10.0.0.0/8")]) == "172.29.0"
    with pytest.raises(ClusterError, match="^no free network of 254 addresses in 10.77.0.0/16, "):
        network.free([Network("10.0.0.0/8"), Network("172.16.0.0/12"), Network("192.168.0.0/16")])


def test_ways_to_everywhere_are_nobody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [{"dst": place} for place in ("default", "0.0.0.0/1", "10.77.0.0/24", "10.77.1.255", "127.0.0.0/8")]
    monkeypatch.setattr(network, "run", lambda *words: subprocess.CompletedProcess(words, 0, json.dumps(shown), ""))
    assert [str(place) for place in network.taken()] == ["10.77.0.0/24", "10.77.1.255/32", "127.0.0.0/8"]
