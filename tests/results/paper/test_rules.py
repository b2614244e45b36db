"""What may stand beside the paper's figures, and what may not: each rule with a run that breaks it alone."""

import pytest

from results.paper.rules import standing
from results.paper.words import percent

SHOWN = {"system": "ResNet-20", "metric": "top-1 error", "place": "Table 6"}


def cell(rows, **wanted):
    """The one line of a published figure."""
    (found,) = rows("table=6", **{**SHOWN, **wanted})
    return found


def apart(rows, section, word="table=6"):
    return [(row["why"], row["copy"]) for row in rows(word, section=section, metric="top-1 error")]


def test_a_run_as_the_paper_has_it_stands_beside_its_figure(store, rows):
    store.train("right", 0.91)
    found = cell(rows)
    assert (found["status"], found["n"], found["run_ids"], found["seeds"]) == ("measured", 1, ["right"], [0])
    assert found["published"] == 0.0875 and found["measured"] == pytest.approx(0.09) and found["fill"] == ""
    assert (found["protocol"], found["bn"], found["copy"], found["why"]) == ("whole image", "running", "", "")
    assert found["published_protocol"] == found["protocol"]
    others = rows("table=6", status="measured", metric="top-1 error")
    assert [row["system"] for row in others] == ["ResNet-20"]


def test_the_last_epoch_counts_and_never_the_best(store, rows):
    store.train("late", 0.90, best_top1=0.99, epochs=[{"epoch": 1, "top1": 0.99}, {"epoch": 165, "top1": 0.90}])
    assert cell(rows)["measured"] == pytest.approx(0.10)


@pytest.mark.parametrize(
    ("row", "section", "why"),
    [
        ({"scale": "small"}, "reduced, not comparable", "scale=small"),
        ({"steps_cap": 6400}, "reduced, not comparable", "6,400 of 64,000 steps"),
        ({"steps_completed": 63_999}, "reduced, not comparable", "63,999 of 64,000 steps"),
        ({"images_per_epoch": 6400}, "reduced, not comparable", "6,400 of 50,000 training images"),
        ({"images_per_epoch": None}, "reduced, not comparable", "its number of steps is not recorded"),
        ({"steps_completed": 70_000}, "another recipe, not the paper's", "70,000 steps, the paper 64,000"),
        ({"recipe": "fast"}, "another recipe, not the paper's", "recipe=fast"),
        ({"recipe": None}, "another recipe, not the paper's", "recipe=not recorded"),
        ({"lr": 0.2}, "another recipe, not the paper's", "lr=0.2, the paper 0.1"),
        ({"weight_decay": 5e-4}, "another recipe, not the paper's", "weight_decay=0.0005, the paper 0.0001"),
        ({"global_batch": 256}, "another recipe, not the paper's", "global_batch=256, the paper 128"),
        ({"image_size": 64}, "another recipe, not the paper's", "image_size=64, the paper 32"),
        ({"recipe": "fast", "scale": "small"}, "reduced, not comparable", "scale=small, recipe=fast"),
        ({"scale": "small", "steps_completed": 3120}, "reduced, not comparable", "scale=small, 3,120 of 64,000 steps"),
        ({"scale": "small", "lr": 0.5}, "reduced, not comparable", "scale=small, lr=0.5"),
        ({"recipe": "fast", "steps_completed": 390}, "another recipe, not the paper's",
         "recipe=fast, 390 of 64,000 steps"),
        ({"recipe": "fast", "global_batch": 512}, "another recipe, not the paper's", "recipe=fast, global_batch=512"),
        ({"lr": 0.2, "steps_completed": 390}, "another recipe, not the paper's",
         "lr=0.2, the paper 0.1, 390 of 64,000 steps"),
        ({"steps_completed": 390, "images_per_epoch": 6400}, "reduced, not comparable",
         "390 of 64,000 steps, 6,400 of 50,000 training images"),
    ],
)  # fmt: skip
def test_what_is_less_or_something_else_stands_apart(store, rows, run, row, section, why):
    store.train("apart", 0.93, **row)
    found = cell(rows)
    assert (found["status"], found["n"], found["measured"]) == ("missing", 0, None)
    assert apart(rows, section) == [(why, "")]
    (other,) = rows("table=6", section=section, metric="top-1 error")
    assert other["published"] is None and other["measured"] == pytest.approx(0.07)
    out = run("table=6")[1]
    assert out.index("missing, and what") < out.index(section) < out.index(why)
    line = next(line for line in out.splitlines() if why in line)
    assert "8.75" not in line and "7.00" in line


@pytest.mark.parametrize("same", [{"scale": "small"}, {"recipe": "fast"}, {"lr": 0.2}, {}])
@pytest.mark.parametrize(
    "other", [{"steps_completed": 780}, {"steps_completed": 6240, "images_per_epoch": 6400}, {"lr": 0.5}]
)
def test_runs_of_another_length_or_recipe_are_never_averaged(store, rows, same, other):
    store.train("one", 0.93, **{"steps_completed": 6240, **same})
    store.train("other", 0.40, seed=1, **{"steps_completed": 6240, **same, **other})
    found = rows("table=6", status="measured", metric="top-1 error")
    assert sorted((row["n"], *row["run_ids"]) for row in found) == [(1, "one"), (1, "other")]


def test_planned_steps_count_where_those_taken_are_not_recorded():
    known = {
        "dataset": "cifar10", "benchmark": None, "engine": "deepspeed", "recipe": "paper", "sample": "cifar10",
        "global_batch": 128, "lr": 0.1, "weight_decay": 1e-4, "image_size": 32, "num_classes": 10,
        "images_per_epoch": 49_920, "steps_completed": None, "steps_cap": 64_000, "epochs": 165,
    }  # fmt: skip
    assert standing(known).kind == "paper"
    assert standing({**known, "epochs": 16}).why == "6,240 of 64,000 steps"
    assert standing({**known, "steps_cap": 100}).why == "100 of 64,000 steps"


@pytest.mark.parametrize("status", ["failed", "killed"])
def test_runs_that_did_not_complete_do_not_count_and_are_named(store, rows, run, status):
    store.train("broken", 0.91, status=status)
    assert cell(rows)["status"] == "missing" and not rows("table=6", status="measured", metric="top-1 error")
    assert "note: 1 failed or killed runs do not count: broken" in run("table=6")[1]


def test_a_run_that_another_completed_is_no_loss(store, run):
    """It went on from there: what was measured is in it."""
    store.train("first", None, status="killed")
    store.train("second", 0.91, resumed_from="first.0", lineage="first.0@86")
    store.train("other", None, status="killed")
    for word in ("table=6", "figure=6"):
        out = run(word)[1]
        assert "1 failed or killed runs" in out and ": other" in out and "first" not in out.partition("failed or")[2]


def test_what_has_nothing_to_be_beside_stands_right_below_its_net(store, rows):
    store.train("copy", 0.88, sample="cifar10-jpeg")
    store.train("another", 0.87, sample="cifar10-png")
    found = [(row["system"], row["published"], row["measured"]) for row in rows("table=6", metric="top-1 error")]
    place = next(number for number, row in enumerate(found) if row[0] == "ResNet-20")
    assert found[place][1:] == (0.0875, None)
    assert sorted(row[2] for row in found[place + 1 : place + 3]) == [pytest.approx(0.12), pytest.approx(0.13)]
    assert [row[0] for row in found[place + 1 : place + 4]] == ["ResNet-20", "ResNet-20", "ResNet-32"]


def test_a_run_counts_by_its_last_attempt(store, rows):
    store.train("twice", 0.91, status="failed", restart_count=0)
    store.train("twice", 0.92, restart_count=1)
    store.train("lost", 0.95, restart_count=0, seed=1)
    store.train("lost", 0.95, status="killed", restart_count=1, seed=1)
    found = cell(rows)
    assert found["run_ids"] == ["twice"] and found["measured"] == pytest.approx(0.08)


def test_images_from_jpegs_have_their_label_and_never_the_papers_line(store, rows, run):
    store.train("jpeg", 0.92, sample="cifar10-jpeg")
    store.train("unsaid", 0.93, sample=None)
    assert cell(rows)["status"] == "missing"
    labelled = rows("table=6", status="measured", metric="top-1 error")
    assert [(row["copy"], row["published"], row["section"]) for row in labelled] == [
        ("cifar10-jpeg", None, "comparable"), ("copy of the images not recorded", None, "comparable")
    ]  # fmt: skip
    line = next(line for line in run("table=6")[1].splitlines() if "8.00" in line)
    assert "8.75" not in line and "ResNet-20" in line and " - " in line


@pytest.mark.parametrize(
    "row",
    [{"benchmark": "step"}, {"benchmark": "micro"}, {"synthetic": True}, {"loader": "synthetic"}],
)
def test_what_did_not_train_on_the_papers_images_is_not_there(store, rows, row):
    store.train("elsewhere", 0.91, **row)
    assert cell(rows)["status"] == "missing" and not rows("table=6", status="measured", metric="top-1 error")


def test_old_rows_without_the_column_are_training(store, rows):
    store.train("old", 0.91, benchmark=None, engine="deepspeed", scale=None, experiment=None)
    assert cell(rows)["run_ids"] == ["old"]


@pytest.mark.parametrize(
    ("row", "system"),
    [
        ({"depth": 32}, "ResNet-32"),
        ({"shortcut": "none"}, "plain-20"),
        ({"shortcut": "B"}, None),
        ({"depth": 26}, None),
    ],
)
def test_another_net_is_another_cell(store, rows, row, system):
    store.train("other", 0.91, **row)
    assert cell(rows)["status"] == "missing"
    assert [one["system"] for one in rows("table=6", status="measured", metric="top-1 error")] == [system] * bool(
        system
    )


def test_several_seeds_have_mean_deviation_and_n(store, rows, run):
    for seed, top1 in enumerate((0.90, 0.91, 0.92)):
        store.train(f"seed{seed}", top1, seed=seed)
    found = cell(rows)
    assert (found["n"], found["seeds"]) == (3, [0, 1, 2])
    assert (found["measured"], found["measured_std"]) == (pytest.approx(0.09), pytest.approx(0.01))
    assert "9.00 ± 1.00" in run("table=6")[1]


def test_a_seed_counts_once_by_its_first_run(store, rows, run):
    store.train("first", 0.90)
    store.train("again", 0.95)
    assert cell(rows)["run_ids"] == ["first"] and cell(rows)["measured"] == pytest.approx(0.10)
    assert "1 run of a seed that was there before, not counted: again" in run("table=6")[1]


def test_resnet_110_is_best_and_mean_from_five_seeds(store, rows, run):
    errors = (0.0643, 0.0650, 0.0660, 0.0670, 0.0682)
    for seed, error in enumerate(errors[:4]):
        store.train(f"seed{seed}", 1 - error, depth=110, seed=seed)
    found = cell(rows, system="ResNet-110")
    assert found["n"] == 4 and "depth=110 " in found["fill"] and " seed=4 " in found["fill"]
    line = next(line for line in run("table=6")[1].splitlines() if line.startswith("ResNet-110"))
    assert "6.56 ± 0.12" in line and "6.43 (6.56" not in line and "more missing [" in line
    store.train("seed4", 1 - errors[4], depth=110, seed=4)
    found = cell(rows, system="ResNet-110")
    assert (found["n"], found["fill"], found["measured_best"]) == (5, "", pytest.approx(0.0643))
    assert "6.43 (6.61 ± 0.16)" in run("table=6")[1]
    assert (percent(found["published"]), percent(found["published_mean"])) == ("6.43", "6.61")


def test_the_others_show_no_best_of_five(store, run):
    for seed in range(5):
        store.train(f"seed{seed}", 0.9 + seed / 1000, seed=seed)
    line = next(line for line in run("table=6")[1].splitlines() if line.startswith("ResNet-20"))
    assert "9.80 ± 0.16" in line and "(9.80" not in line


@pytest.mark.parametrize(
    ("row", "mark"),
    [
        ({"dirty": True}, "dirty code"),
        ({"git_commit": None}, "commit unknown"),
        ({"mixed": '{"hardware": ["a", "b"]}'}, "mixed: hardware"),
        ({"mixed": "{"}, "mixed: unreadable"),
    ],
)
def test_runs_of_dirty_or_mixed_code_are_marked(store, rows, run, row, mark):
    store.train("marked", 0.91, **row)
    assert mark in cell(rows)["marks"] and mark in run("table=6")[1].replace("\n", " ")


def test_seeds_of_several_commits_are_marked(store, rows):
    store.train("one", 0.91)
    assert cell(rows)["marks"] == ["BN over 64 images"]
    store.train("two", 0.91, seed=1, git_commit="2" * 40)
    assert cell(rows)["marks"] == ["BN over 64 images", "2 commits"]


def test_a_best_epoch_of_others_has_nothing_beside_it(store, rows):
    store.train("right", 0.91)
    (best,) = rows("table=6", system="ResNet-20", place="akamaster")
    assert (best["published_epoch"], best["status"], best["measured"]) == ("best", "missing", None)


def test_a_run_without_accuracy_or_protocol_is_named(store, rows, run):
    store.train("blind", None)
    store.train("unsaid", 0.91, eval_protocol=None)
    assert cell(rows)["status"] == "missing"
    out = run("table=6")[1]
    assert "run blind: no accuracy" in out and "run unsaid: no accuracy of its last epoch, or no protocol" in out


def test_imagenet_trains_whole_or_stands_apart(store, rows):
    net = {"dataset": "imagenet", "depth": 34, "shortcut": "B"}
    store.train("whole", 0.73, epochs=[{"epoch": 90, "top1": 0.73, "top5": 0.91}], **net)
    store.train("short", 0.70, steps_completed=30 * 5004, seed=1, **net)
    found = rows("table=3", system="ResNet-34 B", status="measured")
    own = [(row["metric"], row["protocol"], row["published"], row["measured"]) for row in found if row["why"] == ""]
    assert own == [
        ("top-1 error", "1-crop", None, pytest.approx(0.27)),
        ("top-5 error", "1-crop", None, pytest.approx(0.09)),
    ]
    assert apart(rows, "reduced, not comparable", "table=3") == [("150,120 of 450,360 steps", "")]
    # 1-crop errors stand neither beside 10-crop ones nor beside torchvision's, which has another recipe.
    ten = rows("table=3", system="ResNet-34 B", published_protocol="10-crop")
    assert ten and all(row["status"] == "missing" for row in ten)
    vision = rows("table=3", system="ResNet-34 B", place="torchvision")
    assert vision and all(row["status"] == "missing" for row in vision)


@pytest.mark.parametrize("broken", [True, False])
def test_a_top_5_error_whose_file_is_broken_or_lost_is_named(store, rows, run, broken):
    store.train("whole", 0.73, epochs=[{"epoch": 90, "top1": 0.73, "top5": 0.91}], dataset="imagenet", depth=34)
    assert "whole: no top-5" not in run("table=3")[1]
    (path,) = store.root.glob("epochs/*/*.parquet")
    path.write_bytes(b"PAR1") if broken else path.unlink()
    assert [row["metric"] for row in rows("table=3", status="measured")] == ["top-1 error"]
    out = run("table=3")[1]
    assert "note: run whole: no top-5 error of its last epoch can be read\n" in out
    assert (f"note: cannot be read: {path}: " in out) == broken
    assert "top-5" not in run("table=6")[1]


def test_stride_tells_bottlenecks_apart(store, rows):
    store.train("v1.5", 0.76, dataset="imagenet", depth=50, shortcut="B", stride="v1.5")
    found = rows("table=3", status="measured")
    assert [row["system"] for row in found] == ["ResNet-50 B v1.5"]


def test_counts_of_any_run_stand_beside_the_counted(store, rows):
    store.train("made-up", None, dataset="imagenet", depth=18, parameters=11_515_688, multiply_adds=1_794_805_760,
                loader="synthetic", synthetic=True)  # fmt: skip
    found = rows("table=1", system="ResNet-18 A")
    assert [(row["measured"], row["published"]) for row in found] == [(11_515_688,) * 2, (1_794_805_760,) * 2]
    store.train("small", None, dataset="imagenet", depth=34, parameters=1, image_size=64)
    assert {row["status"] for row in rows("table=1", system="ResNet-34 A")} == {"missing"}
