"""Choices on disk: found again, never believed when damaged, never half written, never a reason to stop."""

import json
import multiprocessing
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import kernels
from kernels import runtime
from kernels.choose import cache, decide
from kernels.choose.cache import ChoiceCache, default_directory, identity, source_digest
from kernels.choose.choice import options
from kernels.choose.decide import Choice, ConvSite, Decision, measure_choices

SITE = ConvSite(1, 1, 32, 32, 2, 4, 4, "float16", "inner")
CHIP = runtime.chip(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
CONFIG = options(SITE, "forward", CHIP)[0]
CHOICE = Choice(forward="triton", forward_config=CONFIG)
TIMES = {"forward torch": 10.5, f"forward triton {CONFIG}": 8.25, "dgrad torch": 7.0, "inference torch": 3.0}
DECISION = Decision(CHOICE, TIMES, {"dgrad triton x": "g is off by 1.0e-01, torch's by 1.0e-03"})


class Counted:
    """A measurement in place of the real one, and the notices that a cache gives."""

    def __init__(self, device, directory):
        self.device, self.directory = device, directory
        self.measured, self.notices = [], []

    def measure(self, site, device, timer):
        self.measured.append(site)
        return DECISION

    def decide(self, *sites):
        """With a cache of its own, as another process would have."""
        self.measured, self.notices = [], []
        cache = ChoiceCache(self.directory, self.notices.append)
        return measure_choices(sites or [SITE], self.device, timer=lambda candidate: 1.0, cache=cache)

    @property
    def path(self):
        path = ChoiceCache(self.directory).path(identity(self.device, asdict(SITE)))
        assert path is not None
        return path


@pytest.fixture
def counted(monkeypatch, device, tmp_path):
    counted = Counted(device, tmp_path / "cache")
    monkeypatch.setattr(decide, "measure_site", counted.measure)
    return counted


def test_a_hit_measures_nothing(counted):
    first = counted.decide()
    assert counted.measured == [SITE] and not counted.notices
    again = counted.decide()
    assert not counted.measured and not counted.notices
    assert again == first and again.decisions[SITE] == DECISION
    assert [path.suffix for path in counted.directory.iterdir()] == [".json"]


@pytest.mark.parametrize("change", [{"n": 4}, {"stride": 2}, {"dtype": "bfloat16"}, {"role": "first", "join": True}])
def test_another_link_is_measured(counted, change):
    counted.decide()
    counted.decide(SITE, replace(SITE, **change))
    assert counted.measured == [replace(SITE, **change)] and not counted.notices


@pytest.mark.parametrize("what", ["version", "sources", "cudnn", "torch"])
def test_whatever_else_changes_is_measured_again(counted, monkeypatch, what):
    counted.decide()
    if what == "version":
        monkeypatch.setattr(kernels, "__version__", "99.0.0")
    elif what == "sources":
        monkeypatch.setattr(cache, "_sources", lambda: "0" * 16)
    elif what == "cudnn":
        monkeypatch.setattr(cache.torch.backends.cudnn, "version", lambda: 1)
    else:
        monkeypatch.setattr(cache.torch, "__version__", "99.0.0")
    counted.decide()
    assert counted.measured == [SITE] and not counted.notices


@pytest.fixture
def package(tmp_path):
    """The sources of the kernels, somewhere else."""
    skipped = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(Path(kernels.__file__).parent, tmp_path / "elsewhere", ignore=skipped))


def test_the_key_has_the_package_s_sources(package):
    assert identity(torch.device("cpu"), {})["sources"] == source_digest(package)


@pytest.mark.parametrize(
    "place", ["runtime.py", "new.py", "tiles/conv.py", "choose/timer.py", "choose/new.py", "ops/deep/new.py"]
)
def test_a_changed_or_new_source_is_another_key(package, place):
    before = source_digest(package)
    (package / place).parent.mkdir(parents=True, exist_ok=True)
    (package / place).write_text("# changed\n")
    after = source_digest(package)
    assert after != before == source_digest(Path(kernels.__file__).parent)
    (package / place).rename(package / place.replace(".py", "_moved.py"))
    assert source_digest(package) not in (before, after)


@pytest.mark.parametrize("place", ["aot/cases.py", "aot/new.py", "reference/conv.py", "reference/new.py", "notes.txt"])
def test_what_is_not_measured_is_not_in_the_key(package, place):
    before = source_digest(package)
    (package / place).parent.mkdir(parents=True, exist_ok=True)
    (package / place).write_text("# changed\n")
    assert source_digest(package) == before


def test_an_old_cache_is_left_alone(counted, monkeypatch):
    """One made of other sources: measured again without a word, and there again for those sources."""
    monkeypatch.setattr(cache, "_sources", lambda: "0" * 16)
    counted.decide()
    (old,) = counted.directory.iterdir()
    text = old.read_text()
    monkeypatch.undo()
    monkeypatch.setattr(decide, "measure_site", counted.measure)
    counted.decide()
    assert counted.measured == [SITE] and not counted.notices
    assert old.read_text() == text and len(list(counted.directory.iterdir())) == 2


def changed(text, **values):
    content = json.loads(text)
    content["value"] |= values
    return json.dumps(content)


BROKEN = {
    "empty": lambda text: "",
    "truncated": lambda text: text[: len(text) // 2],
    "a list": lambda text: "[]",
    "a word": lambda text: '"prologue"',
    "no value": lambda text: json.dumps({"key": json.loads(text)["key"]}),
    "deep": lambda text: "[" * 100_000,
    "another mode": lambda text: text.replace('"forward": "triton"', '"forward": "cutlass"'),
    "an impossible pair": lambda text: text.replace('"forward": "triton"', '"forward": "prologue"'),
    "another tile config": lambda text: text.replace(json.dumps(CONFIG.blocks[0][1]), "512"),
    "a tile config of words": lambda text: text.replace(f'"num_warps": {CONFIG.num_warps}', '"num_warps": "four"'),
    "no time": lambda text: changed(text, times_us={"forward torch": 1.0}),
    "no time of torch": lambda text: changed(text, times_us={name: 1.0 for name in TIMES if name != "forward torch"}),
    "a time that is none": lambda text: changed(text, times_us={name: float("nan") for name in TIMES}),
    "a reason that is none": lambda text: changed(text, rejected={"x": 1}),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_file_is_measured_again_and_rewritten(counted, how):
    first = counted.decide()
    text = counted.path.read_text()
    broken = BROKEN[how](text)
    assert broken != text
    counted.path.write_text(broken)
    assert counted.decide() == first
    assert counted.measured == [SITE] and len(counted.notices) == 1
    assert str(counted.path) in counted.notices[0] and "\n" not in counted.notices[0] and len(counted.notices[0]) < 400
    counted.decide()
    assert not counted.measured and not counted.notices


def test_bytes_that_are_no_text_are_damage(counted):
    counted.decide()
    counted.path.write_bytes(b"\xff\xfe\x00" * 100)
    counted.decide()
    assert counted.measured == [SITE] and len(counted.notices) == 1


def test_a_foreign_file_is_measured_again(counted):
    other = replace(SITE, n=4)
    counted.decide(other)
    (file,) = counted.directory.iterdir()
    file.rename(counted.path)
    counted.decide()
    assert counted.measured == [SITE] and "it is for something else" in counted.notices[0]
    counted.decide()
    assert not counted.measured


def test_an_unreadable_file_is_a_notice(counted):
    counted.decide()
    counted.path.unlink()
    counted.path.mkdir()  # whoever runs the tests, even root, reads no folder and replaces none
    assert counted.decide()[SITE] == CHOICE
    assert counted.measured == [SITE] and len(counted.notices) == 2
    assert not list(counted.directory.glob(".*.tmp"))


def test_an_unwritable_folder_is_one_notice(counted, tmp_path):
    (tmp_path / "file").touch()
    counted.directory = tmp_path / "file" / "cache"
    sites = [replace(SITE, n=n) for n in (1, 2, 3)]
    assert len(counted.decide(*sites)) == 3
    told = [notice for notice in counted.notices if "are not kept" in notice]
    assert counted.measured == sites and len(told) == 1


def test_without_a_home_choices_are_not_kept(monkeypatch, device):
    monkeypatch.delenv("RESNET_BENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    notices = []
    cache = ChoiceCache(announce=notices.append)
    cache.store({"a": 1}, {"b": 2})
    assert cache.load({"a": 1}, dict) is None and len(notices) == 1 and "RESNET_BENCH_CACHE" in notices[0]


def test_where_choices_are_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("RESNET_BENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_directory() == tmp_path / ".cache/resnet-bench/kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_directory() == tmp_path / ".cache/resnet-bench/kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg/resnet-bench/kernels"
    monkeypatch.setenv("RESNET_BENCH_CACHE", str(tmp_path / "here"))
    assert default_directory() == tmp_path / "here" == ChoiceCache().directory


def test_notices_go_to_stderr_by_default(capsys, tmp_path):
    cache = ChoiceCache(tmp_path)
    path = cache.path({"a": 1})
    path.write_text("{")
    assert cache.load({"a": 1}, dict) is None
    assert capsys.readouterr().err.count("\n") == 1


def write(directory, writer, times):
    """Store and read a value large enough to be seen half written; exits with 1 if it is."""
    notices = []
    cache = ChoiceCache(directory, notices.append)
    for _ in range(times):
        cache.store({"a": 1}, [writer] * 5_000)
        seen = cache.load({"a": 1}, list)
        if notices or seen is None or len(seen) != 5_000 or len(set(seen)) != 1:
            raise SystemExit(1)


def test_processes_that_write_at_once_leave_a_whole_file(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write, args=(tmp_path, writer, 20)) for writer in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(ChoiceCache(tmp_path).load({"a": 1}, list)) == 5_000
    assert len(list(tmp_path.iterdir())) == 1
