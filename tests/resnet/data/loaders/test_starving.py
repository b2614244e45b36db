"""What a loader's threads and processes die of, or starve of, ends its iteration in one line that names it."""

import contextlib
import errno
import os
import re
import signal
import threading
import time
from multiprocessing import current_process, queues

import psutil
import pytest
import torch
from PIL import Image
from readers import CPU, READERS, loader

from resnet.data import DataError, compute_mean_image, open_dataset
from resnet.data.loaders import dali, dali_graph, patience, prefetch, shared_memory, torch_loader, workers

STALL_S, LOOK_S = 1.2, 0.2


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Seconds in place of a minute."""
    for module in (patience, workers):
        monkeypatch.setattr(module, "STALL_S", STALL_S)
    for module in (patience, workers, prefetch, torch_loader):
        monkeypatch.setattr(module, "LOOK_S", LOOK_S)


@pytest.fixture
def split(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        for i in range(24):
            Image.effect_noise((50, 44), 40 + i).convert("RGB").save(tmp_path / part / "a" / f"{i:02d}.jpg")
    return open_dataset("imagefolder", tmp_path, image_size=32).test


@pytest.fixture
def reading(monkeypatch):
    """Lets a test say what comes before each read of a file, by its name."""

    def before(does):
        def read(path):
            does(os.path.basename(path))
            return whole(path)

        whole = torch_loader.read_file
        for module in (dali, torch_loader):
            monkeypatch.setattr(module, "read_file", read)

    return before


def children():
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def ends(made, patience_s=10 * STALL_S):
    """Read until that fails; what it says."""
    before, began_s = children(), time.monotonic()
    with pytest.raises(DataError) as caught:
        for _ in made.epoch(0):
            pass
    with contextlib.suppress(DataError):  # a thread that hangs is said once more
        made.close()
    assert time.monotonic() - began_s < patience_s
    assert not set(children()) - set(before)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, r"was killed \(SIGKILL\) at \S+/13\.jpg, as the kernel does where memory runs out"),
        (signal.SIGSEGV, r"crashed \(SIGSEGV\) at \S+/13\.jpg; python -m bench\.check_data names"),
        (
            signal.SIGBUS,
            r"crashed \(SIGBUS\) at \S+/13\.jpg, as where /dev/shm is full \([\d.,]+ [Mk]B of [\d.,]+ MB are",
        ),
        (signal.SIGTERM, r"was ended \(SIGTERM\) at \S+/13\.jpg"),
    ],
)
def test_a_worker_that_dies_is_named_with_its_signal_and_its_file(split, reading, number, words):
    reading(lambda name: os.kill(os.getpid(), number) if name == "13.jpg" else None)
    message = ends(loader("torch", split, batch=2, threads=2), patience_s=5)
    assert re.match(rf"loader=torch: worker 1 of 2 \(process \d+\) {words}", message), message


def test_a_worker_that_leaves_is_named_with_its_status(split, reading):
    reading(lambda name: os._exit(3) if name == "13.jpg" else None)
    message = ends(loader("torch", split, batch=2, threads=2), patience_s=5)
    assert re.match(r"loader=torch: worker 1 of 2 \(process \d+\) ended with exit status 3 at \S+/13\.jpg", message)


@pytest.mark.parametrize(
    ("dies", "words"),
    [
        (True, r"worker 1 of 1 \(process \d+\) was killed \(SIGKILL\)"),
        (False, r"a worker's batch cannot be taken over \(Connection reset by peer\)$"),
    ],
)
def test_a_batch_that_went_with_its_worker_is_the_worker_s_death(split, monkeypatch, dies, words):
    """Its pixels lie with a process that is gone, of which torch has not heard yet."""

    def take(self, timeout):
        if dies:
            os.kill(self._workers[0].pid, signal.SIGKILL)
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data", take)
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._set_SIGCHLD_handler", lambda: None)
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with pytest.raises(DataError, match=f"^loader=torch: {words}"):
            next(loader("torch", split, batch=2, threads=1).epoch(0))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not children()


def test_a_death_that_reaches_the_main_thread_elsewhere_is_named_all_the_same(split, reading):
    """It comes in the middle of whatever is done with a batch."""
    reading(lambda name: time.sleep(0.5) or os.kill(os.getpid(), signal.SIGKILL) if name == "13.jpg" else None)
    made = loader("torch", split, batch=2, threads=2)
    with pytest.raises(RuntimeError) as caught:
        for _ in made.epoch(0):
            time.sleep(3)
    named = workers.death_of_worker(caught.value)
    assert named and re.search(r"worker 1 of 2 \(process \d+\) was killed \(SIGKILL\) at \S+/13\.jpg", str(named))
    with contextlib.suppress(DataError):
        made.close()
    assert workers.death_of_worker(RuntimeError("CUDA error")) is None
    assert workers.death_of_worker(ValueError("DataLoader worker (pid 1)")) is None


def test_a_worker_that_dies_with_the_lock_of_its_queue_is_named(split, reading, monkeypatch):
    made, make = [], queues.Queue.__init__
    monkeypatch.setattr(
        queues.Queue, "__init__", lambda self, *a, **words: made.append(self) or make(self, *a, **words)
    )

    def die(name):
        if name == "13.jpg":
            for each in made:
                each._wlock.acquire(timeout=0.1)
            os.kill(os.getpid(), signal.SIGKILL)

    reading(die)
    assert "was killed (SIGKILL) at" in ends(loader("torch", split, batch=2, threads=2), patience_s=5)


def test_a_worker_that_is_suspended_is_named_and_does_not_stay(split, reading):
    def suspend(name: str) -> None:
        if name == "13.jpg":
            # Its last batch is taken over by then: torch asks a worker for what it has put into shared memory, and
            # would wait here for one that is suspended. In a run a thread of ours watches that too.
            time.sleep(STALL_S / 2)
            os.kill(os.getpid(), signal.SIGSTOP)

    reading(suspend)
    message = ends(loader("torch", split, batch=2, threads=2))
    words = r"worker 1 of 2 \(process \d+\) is suspended, as by SIGSTOP; it has been at \S+/13\.jpg for \d+ s"
    assert re.fullmatch(rf"loader=torch: nothing has moved for \d+ s; {words}", message), message


@pytest.mark.parametrize("kind", READERS)
def test_a_read_that_never_returns_is_named(kind, split, reading):
    hang = threading.Event()  # of this process: in a worker nobody sets it
    reading(lambda name: hang.wait(60) if name == "13.jpg" else None)
    message = ends(loader(kind, split, batch=2, threads=2))
    assert message.startswith(f"loader={kind}: nothing has moved for ") and "/13.jpg" in message
    assert "does its file system answer?" in message
    hang.set()


@pytest.mark.parametrize("kind", READERS)
def test_a_pipe_among_the_images_is_refused_and_not_waited_for(kind, split):
    path = next(path for path in split.paths if path.endswith("13.jpg"))
    os.unlink(path)
    os.mkfifo(path)
    assert ends(loader(kind, split, batch=2), patience_s=5) == f"{path}: not a regular file; expected an image"


@pytest.mark.parametrize("kind", READERS)
def test_what_is_slow_is_not_taken_for_stalled(kind, split, reading):
    """A batch takes several times the limit, an image less than half of it."""
    slow = {f"{n:02d}.jpg" for n in range(8)}
    reading(lambda name: time.sleep(0.4 * STALL_S) if name in slow else None)
    made = loader(kind, split, batch=8, threads=1)
    began_s = time.monotonic()
    assert sum(len(batch.labels) for batch in made.epoch(0)) == 24
    assert time.monotonic() - began_s > 2 * STALL_S
    made.close()


def test_a_consumer_that_takes_its_time_is_not_the_loader_s_fault(split):
    for kind in READERS:
        made = loader(kind, split, batch=2, threads=2)
        for index, _ in enumerate(made.epoch(0)):
            time.sleep(1.5 * STALL_S if index == 3 else 0)
        made.close()


def test_a_wait_begins_when_it_begins(split):
    """What has not moved for long was not asked to."""
    signs = patience.Signs("dali")
    time.sleep(1.1 * STALL_S)
    signs.look(time.monotonic())
    with pytest.raises(DataError, match=r"^loader=dali: nothing has moved for \d+ s; none of its threads is at a file"):
        signs.look(time.monotonic() - STALL_S)
    processes = workers.Workers(split, marks := workers.Marks(1), [current_process()])
    marks._table[0] = torch.tensor([5, time.monotonic_ns() - int(2e9 * STALL_S)])
    processes.look(0, time.monotonic())
    with pytest.raises(DataError, match=r"worker 1 of 1 \(process \d+\) has been at \S+/05\.jpg for 2 s"):
        processes.look(0, time.monotonic() - STALL_S)


def test_decoders_that_compute_are_not_taken_for_stalled(split, monkeypatch):
    """DALI says nothing of a batch before it is whole."""

    def take(self):
        end_s = time.thread_time() + 1.5 * STALL_S
        while time.thread_time() < end_s:
            pass
        return whole(self)

    whole = dali_graph.Graph.take
    monkeypatch.setattr(dali_graph.Graph, "take", take)
    made = loader("dali", split, batch=24, epochs=1)
    assert sum(len(batch.labels) for batch in made.epoch(0)) == 24
    made.close()


def test_a_thread_that_hangs_is_not_waited_for_again():
    """Its stall has been waited for already, and a run has no time for another one."""

    def source():
        hang.wait(60)
        yield

    def look(began_s):
        looks.append(began_s)
        raise DataError("it hangs")

    hang, looks = threading.Event(), []
    items = prefetch.Prefetch(source(), 1, "hangs", look)
    with pytest.raises(DataError, match="^it hangs$"):
        next(items)
    items.close()
    assert len(looks) == 1 and list(items) == []
    hang.set()


def test_a_decoder_that_does_not_answer_is_named(split, monkeypatch):
    hang = threading.Event()
    monkeypatch.setattr(dali_graph.Graph, "take", lambda self: hang.wait(60))
    message = ends(loader("dali", split, batch=2))
    words = "none of its threads is at a file: the decoder does not answer"
    assert re.fullmatch(rf"loader=dali: nothing has moved for \d+ s; {words}", message), message
    hang.set()


def test_an_error_of_the_pipeline_is_one_line(split, monkeypatch):
    def fail(self):
        raise RuntimeError("\n[/opt/dali/x.h:1] Error in thread 0\nStacktrace (9 entries):\n...")

    monkeypatch.setattr(dali_graph.Graph, "take", fail)
    assert ends(loader("dali", split, batch=2), 5) == "loader=dali: [/opt/dali/x.h:1] Error in thread 0"


def test_a_pipeline_without_memory_says_so(split, monkeypatch):
    def fail(self):
        raise RuntimeError("CUDA driver error: Out of memory")

    monkeypatch.setattr(dali_graph.Graph, "take", fail)
    made = loader("dali", split, batch=2)
    with pytest.raises(MemoryError, match="^loader=dali: CUDA driver error: Out of memory$"):
        list(made.epoch(0))
    made.close()


@pytest.mark.parametrize("kind", READERS)
def test_an_image_that_finds_no_memory_is_not_called_damaged(kind, split, monkeypatch):
    def load(self):
        raise MemoryError

    png = next(path for path in split.paths if path.endswith("13.jpg"))
    Image.effect_noise((50, 44), 9).convert("RGBA").save(png, "png")  # which both decode with Pillow
    monkeypatch.setattr(Image.Image, "load", load)
    made = loader(kind, split, batch=2)
    with pytest.raises(MemoryError):
        list(made.epoch(0))
    made.close()


def test_threads_that_cannot_be_started_are_one_line(split, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    made = loader("dali", split, batch=2)
    monkeypatch.setattr(threading.Thread, "start", start)
    message = ends(made, 5)
    monkeypatch.undo()
    assert message.startswith("loader thread dali-decode: can't start new thread; does `ulimit -u`"), message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EAGAIN, errno.ENOMEM])
def test_workers_that_cannot_be_started_are_one_line(split, monkeypatch, number):
    def start(self):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", start)
    message = ends(loader("torch", split, batch=2, threads=2), 5)
    assert message.startswith(f"loader=torch: its 2 worker processes cannot be started ({os.strerror(number)}); ")


def test_a_batch_without_room_in_shared_memory_is_one_line(split, monkeypatch):
    made = loader("torch", split, batch=2, threads=2)

    def share(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </x>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", share)
    message = ends(made, 5)
    assert message.startswith("loader=torch: a worker cannot put 6.2 kB into /dev/shm: No space left on device (28) (")


def test_the_mean_image_s_loader_stalls_alike(split, reading, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reading(lambda name: os.kill(os.getpid(), signal.SIGSTOP) if name == "13.jpg" else None)
    with pytest.raises(DataError, match=r"worker \d of 2 .* is suspended"):
        compute_mean_image(split, image_size=32, threads=2, device=CPU, kind="torch")
    assert not children()


def room_of(megabytes):
    return lambda: (int(megabytes * 1e6), int(megabytes * 1e6))


def test_the_room_that_is_needed_is_that_of_all_batches_under_way(monkeypatch):
    batch = 256 * 224 * 224 * 3 + 4096 + 4096  # pixels, labels and which rows count, in whole pages
    assert shared_memory.needed(256, 224, 2) == 9 * batch and shared_memory.needed(256, 224, 0) == 0
    monkeypatch.setattr(shared_memory, "room", lambda: (2 * 9 * batch, 10**10))
    shared_memory.check_room(batch=256, image_size=224, workers=2, loaders=2, ranks=1)
    with pytest.raises(DataError, match=r"where 693\.8 MB of 10,000\.0 MB are free and up to 1,387\.6 MB needed"):
        shared_memory.check_room(batch=256, image_size=224, workers=2, loaders=2, ranks=2)


@pytest.mark.parametrize(
    ("megabytes", "any_batch", "nearest"),
    [
        (64, True, "batch=11 or loader_threads=0"),
        (400, True, "batch=73 or loader_threads=0"),
        (1000, True, "batch=184 or loader_threads=1"),
        (1000, False, "loader_threads=1"),
        (0, True, "loader_threads=0"),
    ],
)
def test_the_nearest_that_has_room_is_named(monkeypatch, megabytes, any_batch, nearest):
    monkeypatch.setattr(shared_memory, "room", room_of(megabytes))
    with pytest.raises(DataError) as caught:
        shared_memory.check_room(batch=256, image_size=224, workers=2, loaders=2, ranks=2, any_batch=any_batch)
    assert f"nearest is {nearest}, a larger /dev/shm (a container's --shm-size), or loader=dali" in str(caught.value)
    named = dict(re.findall(r"(batch|loader_threads)=(\d+)", nearest))
    changed = {"batch": int(named.get("batch", 256)), "workers": 2}
    if "batch" in named:
        shared_memory.check_room(**changed, image_size=224, loaders=2, ranks=2)
        with pytest.raises(DataError):
            shared_memory.check_room(**changed | {"batch": changed["batch"] + 1}, image_size=224, loaders=2, ranks=2)
    shared_memory.check_room(batch=256, image_size=224, workers=int(named["loader_threads"]), loaders=2, ranks=2)


def test_the_room_is_that_of_the_file_system(monkeypatch, tmp_path):
    disk = os.statvfs("/dev/shm")
    free, total = shared_memory.room()
    assert total == disk.f_blocks * disk.f_frsize and 0 <= free <= total
    monkeypatch.setattr(shared_memory, "FOLDER", str(tmp_path / "none"))
    assert shared_memory.room() == (0, 0)


def test_batches_of_workers_are_in_shared_memory_and_those_of_the_consumer_s_own_are_not(split, monkeypatch):
    shared = []
    whole = shared_memory.share
    monkeypatch.setattr(shared_memory, "share", lambda *tensors: shared.append(tensors) or whole(*tensors))
    made = loader("torch", split, batch=2, threads=0)
    assert sum(len(batch.labels) for batch in made.epoch(0)) == 24
    made.close()
    assert shared == []
