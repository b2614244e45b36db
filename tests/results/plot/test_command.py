"""Which run is drawn, and which pictures of it."""

import shutil
from pathlib import Path

import pytest

from results.store.files import table_path

pytestmark = pytest.mark.slow  # pictures are drawn

OLD, NEW = "20000101T000000-old", "20000102T000000-new"
EPOCHS = [{"epoch": 1, "elapsed_s": 1.5, "top1": 0.25}]
STEPS = [{"rank": 0, "step": step, "step_ms": 3.0, "data_ms": 1.0, "compute_ms": 2.0} for step in range(1, 9)]


def names(out):
    return [Path(line).name for line in out.splitlines() if line.endswith(".svg")]


@pytest.fixture
def store(training):
    training.attempt(OLD, epochs=EPOCHS, steps=STEPS)
    return training.attempt(NEW, epochs=EPOCHS)


@pytest.fixture
def draw(run, store, tmp_path):
    return lambda *words: run(f"results={store}", f"to={tmp_path / 'pictures'}", *words)


def test_the_latest_run_with_something_to_draw(draw, training):
    training.attempt("20000103T000000-empty")  # its epochs table is empty
    status, out, err = draw()
    assert (status, names(out), err) == (0, [f"accuracy-{NEW}.svg"], "")


def test_the_latest_run_with_what_was_asked_for(draw):
    assert names(draw("draw=steps")[1]) == [f"steps-{OLD}.svg"]
    assert names(draw("draw=accuracy,steps")[1]) == [f"accuracy-{OLD}.svg", f"steps-{OLD}.svg"]
    assert names(draw("draw=accuracy")[1]) == [f"accuracy-{NEW}.svg"]


def test_a_run_is_named_by_its_id_or_an_end_of_it(draw, refused):
    for word in (OLD, "old", "20000101"):
        assert names(draw(f"run={word}")[1]) == [f"accuracy-{OLD}.svg", f"steps-{OLD}.svg"]
    assert refused(draw("run=2000"), f"2 runs have it; choose from {OLD}, {NEW}")
    assert refused(draw("run=20000102T000000-nex"), f"; nearest is run={NEW}")


def test_what_the_run_has_not_is_refused_with_what_it_has(draw, refused, tmp_path):
    done = draw(f"run={NEW}", "draw=accuracy,steps")
    assert refused(done, f"draw=steps: run={NEW} has no readable steps; nearest is draw=accuracy")
    assert refused(draw("draw=kernels"), "no kernels in it; nearest is draw=accuracy,steps")
    assert refused(draw("draw=acuracy"), "nearest: draw=accuracy")
    assert refused(draw("darw=accuracy"), "did you mean draw=accuracy?")
    assert not (tmp_path / "pictures").exists()


def test_a_damaged_file_is_named_and_the_rest_is_drawn(draw, store):
    damaged = table_path(store, "epochs", "2000-01", OLD, 0)
    damaged.write_bytes(damaged.read_bytes()[:-30])
    status, out, err = draw("run=old")
    assert (status, names(out)) == (0, [f"steps-{OLD}.svg"])
    assert err.startswith(f"left out {damaged}: ") and err.count("\n") == 1
    status, out, err = draw("run=old", "draw=accuracy")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].endswith(f"draw=accuracy: run={OLD} has no readable epochs; nearest is draw=steps")


def test_a_damaged_latest_run_gives_way_to_the_one_before(draw, store):
    damaged = table_path(store, "epochs", "2000-01", NEW, 0)
    damaged.write_bytes(b"PAR1")
    status, out, err = draw()
    assert (status, names(out)) == (0, [f"accuracy-{OLD}.svg", f"steps-{OLD}.svg"])
    assert err.startswith(f"left out {damaged}: ") and err.count("\n") == 1


def test_what_cannot_be_drawn_is_said_and_the_rest_is_drawn(draw, training):
    training.attempt("20000104T000000-synthetic", epochs=[{"epoch": 1, "elapsed_s": 1.0}], steps=STEPS,
                     null_reasons={"final_top1": "synthetic images: nothing to evaluate"})  # fmt: skip
    status, out, err = draw()
    assert (status, names(out)) == (0, ["steps-20000104T000000-synthetic.svg"])
    assert err == "not drawn: run=20000104T000000-synthetic: synthetic images: nothing to evaluate\n"


def test_a_run_that_cannot_be_drawn_is_passed_over_aloud(draw, training):
    why = {"final_top1": "synthetic images: nothing to evaluate"}
    training.attempt("20000105T000000-synthetic", epochs=[{"epoch": 1, "elapsed_s": 1.0}], null_reasons=why)
    status, out, err = draw()
    assert (status, names(out)) == (0, [f"accuracy-{NEW}.svg"])
    assert err == "passed over: run=20000105T000000-synthetic: synthetic images: nothing to evaluate\n"


def test_a_machine_that_is_not_recorded_is_said(draw, store, said, tmp_path):
    for table in ("system", "runs"):
        shutil.rmtree(store / table)
    assert draw(f"run={NEW}")[0] == 0
    words = said(tmp_path / "pictures" / f"accuracy-{NEW}.svg")
    assert "unknown net on unknown images" in words and f"machine not recorded, run {NEW}" in words
    assert "The run's status is unknown." in words


@pytest.mark.parametrize("key", ["results", "ladder"])
def test_a_home_that_nobody_has_is_one_line(run, tmp_path, key):
    status, out, err = run(f"{key}=~nobody.here/x", f"to={tmp_path}")
    assert (status, out) == (2, "") and err.count("\n") == 1 and f"{key}=" in err


def test_a_name_too_long_names_its_key(run, tmp_path):
    status, out, err = run(f"results={'x' * 300}", f"to={tmp_path}")
    assert (status, out) == (2, "") and err.count("\n") == 1 and "results=" in err


def test_closed_stdin_is_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    status, out, err = run("ladder=-", f"to={tmp_path}")
    assert (status, out) == (2, "") and err.count("\n") == 1 and "ladder=-" in err
