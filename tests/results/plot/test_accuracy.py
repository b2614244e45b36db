"""Pictures of accuracy over a run's clock. Every accuracy and time here is made up for the test."""

import math
import re

import pytest

from results.plot import accuracy
from results.plot.run_rows import RunRows

pytestmark = pytest.mark.slow  # pictures are drawn

RUN = "20000101T000000-testonly"
EPOCHS = [(1, 11.11, 0.25), (2, 22.22, 0.4321), (3, 33.33, 0.6123), (4, 44.44, 0.5987)]
MET = {"tta_s": 33.33, "epochs_to_target": 3, "final_top1": 0.5987, "best_top1": 0.6123}


def rows(points=EPOCHS, **more):
    return [{"epoch": epoch, "elapsed_s": seconds, "top1": top1, **more} for epoch, seconds, top1 in points]


def test_points_stand_where_their_rows_say(training, drawn, tmp_path, said, svg_of):
    svg = svg_of(drawn(training.attempt(RUN, epochs=rows(), **MET), tmp_path / "new", "accuracy"))
    for axis, column in (("x", 1), ("y", 2)):
        points = svg.on_scale(axis, svg.marks("attempt-0", axis))
        assert points == pytest.approx([point[column] for point in EPOCHS], rel=1e-3)
        assert svg.on_scale(axis, svg.marks("reached", axis)) == pytest.approx([EPOCHS[2][column]], rel=1e-3)
    assert svg.on_scale("y", svg.ends("target", "y")) == pytest.approx([0.5, 0.5], rel=1e-3)
    assert "epoch 4: 0.5987 after 44.4 s" in said(svg.path)


def test_its_words_are_those_of_the_rows(training, drawn, tmp_path, said):
    words = said(drawn(training.attempt(RUN, epochs=rows(), **MET), tmp_path, "accuracy"))
    for word in ("ResNet-20 (shortcut A) on cifar10-jpeg", "CPU (Test-Only CPU 1, 2 cores), 2 ranks, bf16, batch 128",
                 f"run {RUN}", "target 0.5", "target reached after 33.3 s (epoch 3)",
                 "Before the clock: 12.3 s of start-up", "3.2 s of writing the dataset once"):  # fmt: skip
        assert word in words, word
    assert "restart" not in words and "status" not in words


def test_a_gpu_and_a_plain_net_are_named(training, drawn, tmp_path, said):
    root = training.attempt(RUN, epochs=rows(), system={"gpu_model": "Test-Only GPU $1", "cpu_model": "Test-Only CPU"},
                            shortcut="none", world_size=1, **MET)  # fmt: skip
    words = said(drawn(root, tmp_path, "accuracy"))
    assert "plain-20 on cifar10-jpeg" in words and "Test-Only GPU $1, 1 rank, bf16" in words and "CPU" not in words


def test_a_target_that_was_never_reached(training, drawn, tmp_path, said):
    root = training.attempt(RUN, epochs=rows(), target_top1=0.75, final_top1=0.5987, best_top1=0.6123)
    svg = drawn(root, tmp_path, "accuracy")
    assert "target 0.75: not reached (best 0.6123)" in said(svg) and "target reached" not in said(svg)
    assert 'id="target"' in svg.read_text() and 'id="reached"' not in svg.read_text()


def test_a_run_without_a_target(training, drawn, tmp_path, said):
    svg = drawn(training.attempt(RUN, epochs=rows(), target_top1=None), tmp_path, "accuracy")
    assert "target" not in said(svg) and 'id="target"' not in svg.read_text()


def test_attempts_are_told_apart(training, drawn, tmp_path, said, svg_of):
    training.attempt(RUN, 0, rows(EPOCHS[:2]), status="killed", failure_kind="preempted")
    again = [(2, 92.5, 0.4567), (3, 103.5, 0.6123)]  # epoch 2 was lost after its checkpoint, and trained once more
    root = training.attempt(RUN, 1, rows(again), tta_s=103.5, epochs_to_target=3, downtime_s=65.4, prepare_s=0.0,
                            init_start=None)  # fmt: skip
    svg = drawn(root, tmp_path, "accuracy")
    assert [len(svg_of(svg).marks(f"attempt-{restart}", "x")) for restart in (0, 1)] == [2, 2]
    words = said(svg)
    for word in ("first attempt", "restart 1", "65.4 s of the clock went by", "target reached after 103.5 s (epoch 3)",
                 "12.3 s of start-up", "3.2 s of writing"):  # fmt: skip
        assert word in words, word
    assert "The run's status" not in words and "No rows here" not in words


def test_the_training_error_is_drawn_where_it_is_known(training, drawn, tmp_path, said, svg_of):
    """Over the same clock, beside the test images; an attempt of an older age has none."""
    training.attempt(RUN, 0, rows(EPOCHS[:2]), status="killed", failure_kind="preempted")
    known = [{**row, "train_top1": row["top1"] + 0.125} for row in rows(EPOCHS[2:])]
    svg = drawn(training.attempt(RUN, 1, known, downtime_s=1.0), tmp_path, "accuracy")
    read = svg_of(svg)
    assert read.on_scale("x", read.marks("training-1", "x")) == pytest.approx([33.33, 44.44], rel=1e-3)
    assert read.on_scale("y", read.marks("training-1", "y")) == pytest.approx([0.7373, 0.7237], rel=1e-3)
    assert read.on_scale("y", read.marks("attempt-1", "y")) == pytest.approx([0.6123, 0.5987], rel=1e-3)
    assert "training-0" not in read.groups
    words = said(svg)
    for word in ("first attempt, test images", "restart 1, test images", "training images",
                 "top-1 (fraction of images)", "one minus it is the training error"):  # fmt: skip
        assert word in words, word


def test_a_run_of_an_older_age_has_no_word_of_training_images(training, drawn, tmp_path, said):
    nan = [{**row, "train_top1": math.nan} for row in rows()]
    words = said(drawn(training.attempt(RUN, epochs=nan, **MET), tmp_path, "accuracy"))
    assert "Dashed" not in words and "training images" not in words and "fraction of test images" in words


def test_the_curves_of_a_chain_of_runs_join(training, drawn, tmp_path, said, svg_of):
    """Each up to where the next one went on: what an attempt did after that is of no chain."""
    first, second = "19990101T000000-first.run", "19990102T000000-second"
    training.attempt(first, 0, rows(EPOCHS[:3]), status="killed", failure_kind="preempted")
    training.attempt(second, 1, rows([(3, 63.3, 0.55), (4, 74.4, 0.58)]), status="killed", failure_kind="preempted",
                     resumed_from=f"{first}.0", resumed_epoch=2, lineage=f"{first}.0@2")  # fmt: skip
    again = [(4, 94.4, 0.61), (5, 99.9, 0.62)]
    root = training.attempt(RUN, 2, rows(again), resumed_from=f"{second}.1", resumed_epoch=3, downtime_s=65.4,
                            lineage=f"{first}.0@2 {second}.1@3", init_start=None)  # fmt: skip
    svg = drawn(root, tmp_path, "accuracy", f"run={RUN}")
    times = [svg_of(svg).on_scale("x", svg_of(svg).marks(f"attempt-{restart}", "x")) for restart in (0, 1, 2)]
    assert times[0] == pytest.approx([11.11, 22.22], rel=1e-3)
    assert times[1] == pytest.approx([63.3], rel=1e-3)
    assert times[2] == pytest.approx([94.4, 99.9], rel=1e-3)
    words = said(svg)
    assert f"It went on from {first} (to epoch 2), {second} (to epoch 3)." in words
    assert "12.3 s of start-up" in words and "No rows here" not in words
    alone = drawn(root, tmp_path, "accuracy", f"run={first}")
    assert len(svg_of(alone).marks("attempt-0", "x")) == 3 and "It went on from" not in said(alone)


def test_an_attempt_that_is_lost_is_said(training, drawn, tmp_path, said):
    root = training.attempt(RUN, 1, rows(EPOCHS[2:]), status="failed", failure_kind="oom", **MET)
    words = said(drawn(root, tmp_path, "accuracy"))
    assert "No rows here of the run's attempt 0; 0 is the first." in words
    assert "start-up of unknown length and an unknown time of writing" in words
    assert "The run's status is failed (oom)." in words


def test_a_target_met_in_a_lost_attempt_keeps_its_seconds(training, drawn, tmp_path, said, svg_of):
    svg = drawn(training.attempt(RUN, 1, rows(EPOCHS[3:]), **MET), tmp_path, "accuracy")
    assert "target reached after 33.3 s (epoch 3)" in said(svg)
    read = svg_of(svg)
    assert read.on_scale("x", read.marks("reached", "x")) == pytest.approx([33.33], rel=1e-3)
    assert read.on_scale("y", read.marks("reached", "y")) == pytest.approx([0.5], rel=1e-3)


def test_synthetic_images_have_no_accuracy(training, run, tmp_path, refused):
    why = {"final_top1": "synthetic images: nothing to evaluate"}
    root = training.attempt(RUN, epochs=rows([(1, 1.0, None)]), loader="synthetic", null_reasons=why, target_top1=None)
    assert refused(run(f"results={root}", f"to={tmp_path / 'pictures'}"), f"run={RUN}: synthetic images: nothing")
    assert not (tmp_path / "pictures").exists()


def test_epochs_without_a_number_are_no_points(training, tmp_path):
    nan = float("nan")
    points = [(1, 1.0, None), (2, None, 0.1), (3, nan, 0.1), (4, 4.0, nan), (5, 5.0, 0.2)]
    curve = accuracy.read(RunRows(training.attempt(RUN, epochs=rows(points)), RUN))
    assert curve.points == [(5.0, 0.2, 5)]


def test_epochs_come_in_the_clock_s_order(training, tmp_path):
    curve = accuracy.read(RunRows(training.attempt(RUN, epochs=rows(EPOCHS[::-1])), RUN))
    assert [epoch for _, _, epoch in curve.points] == [1, 2, 3, 4]


def test_the_same_rows_give_the_same_picture(training, drawn, tmp_path):
    root = training.attempt(RUN, epochs=rows(), **MET)
    one, two = (drawn(root, tmp_path / name, "accuracy").read_bytes() for name in ("one", "two"))
    assert one == two and b"Matplotlib" not in one


def test_a_name_too_long_for_a_line_stays_in_the_picture(training, drawn, tmp_path):
    long = "20000101T000000-" + "x" * 110
    root = training.attempt(long, epochs=rows(), init_stop=None, init_start=None, **MET)
    svg = drawn(root, tmp_path, "accuracy")
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )?([\d.]+)px", svg.read_text())]
    assert min(sizes) < 6 < max(sizes)


def test_a_number_of_an_attempt_that_cannot_be_costs_no_picture(training, drawn, tmp_path, said):
    training.attempt(RUN, **MET)
    root = training.attempt(RUN, 100_000, epochs=rows(), **MET)
    assert "No rows here of the run's attempt 1 to 99999; 0 is the first." in said(drawn(root, tmp_path, "accuracy"))


def test_times_that_are_none_and_words_that_no_svg_holds(training, drawn, tmp_path, said):
    root = training.attempt(RUN, epochs=rows(), system={"cpu_model": "Test\x1bOnly"}, **MET | {"prepare_s": math.nan})
    words = said(drawn(root, tmp_path, "accuracy"))  # which reads the SVG as XML
    assert "CPU (Test?Only" in words and "and an unknown time of writing" in words
