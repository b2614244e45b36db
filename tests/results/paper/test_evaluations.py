"""Errors of saved weights: beside a published figure of the same protocol, and only as their run would be."""

import pytest

NET = {"dataset": "imagenet", "depth": 34, "shortcut": "B"}


@pytest.fixture
def trained(store):
    """A whole run, whose weights of the last epoch may be evaluated."""
    store.train("run", 0.73, **NET)
    return store


def ours(rows, number="3", **wanted):
    found = rows(f"table={number}", system="ResNet-34 B", status="measured", metric="top-1 error")
    return [row for row in found if row["protocol"] != "1-crop" and all(row[key] == wanted[key] for key in wanted)]


def test_ten_crops_stand_beside_ten_crops_alone(trained, rows):
    trained.evaluate(
        "e", {"trained_by": "run.0", "epoch": 90}, {"trained_by": "run.0", "epoch": 90, "protocol": "1-crop"}
    )
    (found,) = ours(rows)
    assert (found["published"], found["published_protocol"], found["protocol"]) == (0.2452, "10-crop", "10-crop")
    assert (found["measured"], found["run_ids"], found["seeds"]) == (0.25, ["run"], [0])
    top5 = rows("table=3", system="ResNet-34 B", metric="top-5 error", protocol="10-crop")
    assert [(row["published"], row["measured"]) for row in top5] == [(0.0746, pytest.approx(0.08))]
    # Of multi-scale there is nothing, and what there is of other protocols has lines without a published figure.
    four = rows("table=4", system="ResNet-34 B", metric="top-1 error")
    assert [(row["published"], row["status"]) for row in four if row["published"]] == [(0.2184, "missing")]
    assert {row["protocol"] for row in four if row["published"] is None} == {"1-crop", "10-crop"}


def test_multi_scale_stands_in_table_4_alone(trained, rows):
    trained.evaluate("e", {"trained_by": "run.0", "epoch": 90, "protocol": "multi-scale"})
    assert [row["published"] for row in ours(rows, "4")] == [0.2184]
    assert [row["published"] for row in ours(rows, "3")] == [None]


def test_the_figure_of_a_runs_last_epoch_is_not_counted_twice(trained, rows):
    trained.evaluate("e", {"trained_by": "run.0", "epoch": 90, "protocol": "1-crop", "top1": 0.5})
    (found,) = rows("table=3", system="ResNet-34 B", protocol="1-crop", metric="top-1 error")
    assert (found["n"], found["measured"], found["bn"]) == (1, pytest.approx(0.27), "running")


def test_statistics_of_bn_are_part_of_the_protocol(trained, store, rows):
    exact = {"trained_by": "run.0", "epoch": 90, "bn": "exact", "top1": 0.76}
    trained.evaluate("e", {"trained_by": "run.0", "epoch": 90}, exact)
    assert [(row["bn"], row["published"]) for row in ours(rows)] == [("running", 0.2452), ("exact", None)]
    store.train("fifty", 0.75, **{**NET, "depth": 50})
    fifty = {"trained_by": "fifty.0", "epoch": 90, "depth": 50, "protocol": "1-crop", "top1": 0.755}
    released = {"system": "ResNet-50 B", "place": "released models", "metric": "top-1 error"}
    store.evaluate("f", fifty)
    assert [row["status"] for row in rows("table=3", **released)] == ["missing"]
    store.evaluate("g", {**fifty, "bn": "exact"})
    assert [(row["published"], row["measured"]) for row in rows("table=3", **released)] == [
        (0.247, pytest.approx(0.245))
    ]


@pytest.mark.parametrize(
    ("trained_as", "evaluation", "section", "why"),
    [
        ({}, {"epoch": 60}, "reduced, not comparable", "weights of epoch 60 of 90"),
        ({}, {"epoch": None}, "reduced, not comparable", "weights of epoch unknown of 90"),
        ({}, {"images": 1000}, "reduced, not comparable", "1,000 of 50,000 test images"),
        ({}, {"images": None}, "reduced, not comparable", "an unknown number of 50,000 test images"),
        ({}, {"trained_by": "gone.0"}, "another recipe, not the paper's",
         "its run is not in this store, weights of epoch 90 of unknown"),
        ({}, {"image_size": 320}, "another recipe, not the paper's", "image_size=320"),
        ({}, {"image_size": 320, "epoch": 60}, "reduced, not comparable",
         "weights of epoch 60 of 90, evaluated at image_size=320"),
        ({"recipe": "fast"}, {"epoch": 60, "images": 1000}, "another recipe, not the paper's",
         "recipe=fast, weights of epoch 60 of 90, 1,000 of 50,000 test images"),
        ({"scale": "small"}, {}, "reduced, not comparable", "scale=small"),
        ({"recipe": "fast"}, {}, "another recipe, not the paper's", "recipe=fast"),
        ({"steps_completed": 5004}, {}, "reduced, not comparable", "5,004 of 450,360 steps"),
        ({"scale": "small", "image_size": 64}, {"image_size": 64}, "reduced, not comparable",
         "scale=small, image_size=64"),
    ],
)  # fmt: skip
def test_weights_stand_where_their_run_does(store, rows, trained_as, evaluation, section, why):
    store.train("run", 0.73, **{**NET, **trained_as})
    store.evaluate("e", {"trained_by": "run.0", "epoch": 90, **evaluation})
    assert [(row["section"], row["why"], row["published"]) for row in ours(rows)] == [(section, why, None)]
    published = rows("table=3", system="ResNet-34 B", published_protocol="10-crop")
    assert {row["status"] for row in published} == {"missing"}


def test_weights_of_a_run_that_failed_and_training_images_do_not_count(store, rows):
    store.train("failed", 0.73, status="failed", **NET)
    store.evaluate("e", {"trained_by": "failed.0", "epoch": 90})
    store.train("run", 0.73, seed=1, **NET)
    store.evaluate("f", {"trained_by": "run.0", "epoch": 90, "split": "train", "images": 1_281_167})
    assert ours(rows) == []


def test_published_weights_are_labelled_and_fill_no_cell_of_ours(store, rows, run):
    store.evaluate("e", {"top1": 0.7331, "top5": 0.9142, "protocol": "1-crop"}, {"top1": 0.75})
    one, ten = ("1-crop", "10-crop")
    found = rows("table=3", system="ResNet-34 B", metric="top-1 error", status="measured")
    assert {(row["place"], row["protocol"], row["origin"], row["published"]) for row in found} == {
        ("torchvision", one, "weights of no run", 0.2669), ("Table 3", ten, "weights of no run", 0.2452)
    }  # fmt: skip
    missing = rows("table=3", system="ResNet-34 B", metric="top-1 error", status="missing")
    assert [row["place"] for row in missing] == ["Table 3"]
    assert found[0]["run_ids"] == ["abababababab"] and "1-crop, weights of no run" in run("table=3")[1]


def test_published_weights_and_runs_are_never_averaged(trained, rows):
    trained.evaluate("e", {"trained_by": "run.0", "epoch": 90})
    trained.evaluate("f", {"top1": 0.5})
    assert sorted((row["origin"], row["n"], row["measured"]) for row in ours(rows)) == [
        ("trained here", 1, 0.25), ("weights of no run", 1, 0.5)
    ]  # fmt: skip


def test_an_evaluation_of_jpegs_is_labelled(store, rows):
    store.train("run", 0.91)
    net = {"dataset": "cifar10", "family": "cifar", "depth": 20, "shortcut": "A", "trained_by": "run.0", "epoch": 165}
    store.evaluate("e", {**net, "protocol": "whole image", "bn": "exact", "sample": "cifar10-jpeg"})
    (found,) = rows("table=6", metric="top-1 error", bn="exact")
    assert (found["copy"], found["published"], found["section"]) == ("cifar10-jpeg", None, "comparable")


def test_the_latest_evaluation_of_weights_counts_and_dirty_ones_are_marked(trained, rows):
    trained.evaluate("e", {"trained_by": "run.0", "epoch": 90, "top1": 0.1})
    trained.evaluate("f", {"trained_by": "run.0", "epoch": 90, "top1": 0.75, "dirty": True})
    (found,) = ours(rows)
    assert (found["n"], found["measured"], found["marks"]) == (1, 0.25, ["evaluated by dirty code"])


def test_of_one_seed_the_run_that_began_first_counts_whichever_was_evaluated_first(trained, store, rows):
    store.train("again", 0.74, **NET)
    trained.evaluate("e", {"trained_by": "again.0", "epoch": 90, "top1": 0.8})
    trained.evaluate("f", {"trained_by": "run.0", "epoch": 90, "top1": 0.75})
    trained.evaluate("g", {"trained_by": "again.0", "epoch": 90, "top1": 0.8})
    (found,) = ours(rows)
    assert (found["run_ids"], found["measured"]) == (["run"], 0.25)


def test_an_ensemble_stands_apart_from_the_test_server(store, rows):
    store.train("a", 0.73, **NET)
    store.train("b", 0.75, **{**NET, "depth": 50})
    members = [{"member": 1, "members": 2, "trained_by": "a.0", "epoch": 90},
               {"member": 2, "members": 2, "trained_by": "b.0", "epoch": 90, "depth": 50}]  # fmt: skip
    whole = {"member": None, "members": 2, "trained_by": None, "depth": None, "shortcut": None, "top5": 0.95}
    store.evaluate("e", *members, whole)
    first, found = rows("table=5", metric="top-5 error")
    assert (first["published"], first["split"], first["status"]) == (0.0357, "test", "missing")
    assert (found["published"], found["protocol"], found["measured"]) == (
        None,
        "ensemble, 10-crop",
        pytest.approx(0.05),
    )
    assert found["system"] == "2 nets: ResNet-34 B, ResNet-50 B"
    store.evaluate("f", {**members[0], "members": 3}, {**whole, "members": 3})  # of two members nothing is known
    assert len(rows("table=5", metric="top-5 error")) == 2
    store.evaluate("g", members[0], {**members[1], "epoch": 3}, whole)
    assert {row["section"] for row in rows("table=5", metric="top-5 error")} == {
        "comparable",
        "reduced, not comparable",
    }


@pytest.mark.parametrize("trained_as", [{}, {"scale": "small"}, {"recipe": "fast"}])
@pytest.mark.parametrize("other", [{"image_size": 320}, {"images": 1000}, {"epoch": 60}])
def test_a_later_evaluation_of_another_kind_replaces_no_earlier_one(store, rows, trained_as, other):
    store.train("run", 0.73, **NET, **trained_as)
    usual = {"trained_by": "run.0", "epoch": 90, "image_size": 224}
    store.evaluate("e", usual)
    store.evaluate("f", {**usual, "top1": 0.875, **other})
    assert sorted((row["measured"], row["n"]) for row in ours(rows)) == [(0.125, 1), (0.25, 1)]
    beside = [(row["measured"], row["why"]) for row in ours(rows) if row["published"] is not None]
    assert beside == ([] if trained_as else [(0.25, "")])


@pytest.mark.parametrize("size", [224, None])
def test_the_size_of_the_schedule_and_an_unknown_one_pass(trained, rows, size):
    trained.evaluate("e", {"trained_by": "run.0", "epoch": 90, "image_size": size})
    assert [(row["published"], row["why"]) for row in ours(rows)] == [(0.2452, "")]


def test_weights_of_no_run_at_another_size_stand_apart(store, rows):
    store.evaluate("e", {"image_size": 320})
    assert [(row["published"], row["why"]) for row in ours(rows)] == [(None, "image_size=320")]


def test_another_precision_than_the_runs_own_is_marked(store, rows, run):
    store.train("run", 0.73, precision="bf16", **NET)
    for name, precision, marks in (("e", None, []), ("f", "bf16", []), ("g", "fp16", ["evaluated in fp16"])):
        store.evaluate(name, {"trained_by": "run.0", "epoch": 90, "precision": precision})
        assert [row["marks"] for row in ours(rows)] == [marks]
    out = run("table=3")[1]
    assert "ResNet-34 B, 10-crop: evaluated in fp16\n" in out and " 25.00* " not in out  # no word of its code
    store.evaluate("h", {"depth": 50, "precision": "bf16"}, {"depth": 101, "precision": "fp32"})
    found = rows("table=3", origin="weights of no run", metric="top-1 error")
    assert [(row["system"], row["marks"]) for row in found] == [
        ("ResNet-50 B", ["evaluated in bf16"]), ("ResNet-101 B", [])
    ]  # fmt: skip


@pytest.mark.parametrize("order", [(2, 2048), (2048, 2)])
def test_exact_statistics_over_few_images_replace_none_over_many(store, rows, run, order):
    store.train("fifty", 0.75, **{**NET, "depth": 50})
    for images in order:
        store.evaluate(f"over{images}", {
            "trained_by": "fifty.0", "epoch": 90, "depth": 50, "protocol": "1-crop", "bn": "exact",
            "bn_images": images, "top1": 0.5 if images == 2 else 0.75,
        })  # fmt: skip
    found = rows("table=3", bn="exact", metric="top-1 error")
    assert {(row["bn_images"], row["measured"], row["published"]) for row in found} == {
        (2048, 0.25, 0.247), (2, 0.5, None)
    }  # fmt: skip
    lines = run("table=3")[1].splitlines()
    (few,) = [line for line in lines if "bn exact over 2 images" in line and " top-1 " in line]
    assert " 50.00 " in few and any("bn exact over 2,048 images" in line and "24.70" in line for line in lines)


def test_files_of_different_nets_are_never_averaged_and_one_file_counts_once(store, rows, run):
    fifty = {"depth": 50, "stride": "v1.5", "protocol": "1-crop"}
    for name, file, top1 in (("e", "aa", 0.75), ("f", "bb", 0.8125), ("g", "aa", 0.5)):
        store.evaluate(name, {**fifty, "weights": [file * 32], "top1": top1})
    found = rows("table=3", status="measured", metric="top-1 error")
    # Nothing says which of the two the published figure is of.
    assert [(row["n"], row["measured"], row["run_ids"], row["place"]) for row in found] == [
        (1, 0.5, ["aa" * 6], "torchvision"), (1, 0.1875, ["bb" * 6], "torchvision")
    ]  # fmt: skip
    out = run("table=3")[1]
    assert all(f"1-crop, weights of no run, {file * 6}" in out for file in ("aa", "bb"))


def test_runs_that_the_store_has_not_are_never_averaged(store, rows):
    for seed in (0, 1):
        store.evaluate(f"e{seed}", {"trained_by": f"gone{seed}.0", "epoch": 90, "seed": seed})
    assert [(row["n"], row["run_ids"]) for row in ours(rows)] == [(1, ["gone1"]), (1, ["gone0"])]


def test_ensembles_of_other_nets_are_never_averaged_and_one_counts_once(store, rows):
    for seed in range(3):
        store.train(f"run{seed}", 0.73, seed=seed, **NET)
    for name, other, top1 in (("e", 1, 0.75), ("f", 2, 0.8125), ("g", 1, 0.5)):
        members = [
            {"trained_by": f"run{seed}.0", "epoch": 90, "member": at, "members": 2} for at, seed in ((1, 0), (2, other))
        ]
        store.evaluate(name, *members, {"member": None, "members": 2, "top1": top1})
    found = rows("table=5", origin="ensemble", metric="top-1 error")
    assert [(row["n"], row["measured"], row["run_ids"]) for row in found] == [
        (1, 0.5, ["run0 run1"]), (1, 0.1875, ["run0 run2"])
    ]  # fmt: skip


def test_ensembles_stand_in_the_table_of_their_images(store, rows, run):
    for seed in (0, 1):
        store.train(f"run{seed}", 0.91, seed=seed)
    usual = {"dataset": "cifar10", "family": "cifar", "depth": 20, "shortcut": "A", "protocol": "whole image",
             "members": 2, "epoch": 165}  # fmt: skip
    members = [{**usual, "member": 1 + seed, "trained_by": f"run{seed}.0"} for seed in (0, 1)]
    store.evaluate("e", *members, {**usual, "member": None, "top1": 0.9375})
    assert rows("table=5", status="measured") == [] and "ResNet-20" not in run("table=5")[1]
    (found,) = rows("table=6", origin="ensemble")
    assert (found["system"], found["measured"], found["published"]) == ("2 nets: ResNet-20, ResNet-20", 0.0625, None)
    assert "ensemble, whole image" in run("table=6")[1]


@pytest.mark.parametrize("lacking", [("protocol",), ("bn",), ("protocol", "bn")])
def test_an_evaluation_without_its_protocol_or_statistics_is_named_and_not_shown(trained, rows, run, lacking):
    row = {"trained_by": "run.0", "epoch": 90}
    trained.evaluate("e", row, {**row, **dict.fromkeys(lacking)}, {**row, "member": None, **dict.fromkeys(lacking)})
    assert [(one["bn"], one["n"], one["protocol"]) for one in ours(rows)] == [("running", 1, "10-crop")]
    note = f"note: evaluation e: no {' and no '.join(lacking)} is recorded: not shown"
    for word in ("table=3", "table=5"):
        status, out, err = run(word)
        assert (status, err, out.count(note)) == (0, "", 1)


@pytest.mark.parametrize(
    "second",
    [
        {"trained_by": "run0.0"},
        {"trained_by": "run0.0", "weights": ["cd"]},
        {"trained_by": "run1.0", "weights": ["ab"]},
    ],
)
def test_an_ensemble_of_one_net_twice_is_named_and_not_shown(store, rows, run, second):
    for seed in (0, 1):
        store.train(f"run{seed}", 0.73, seed=seed, **NET)
    first = {"trained_by": "run0.0", "weights": ["ab"]}
    members = [{**one, "epoch": 90, "member": at, "members": 2} for at, one in enumerate(({**first}, second), 1)]
    whole = {"member": None, "members": 2}
    store.evaluate("e", *({**one, "weights": one.get("weights", ["ab"])} for one in members), whole)
    assert rows("table=5", origin="ensemble") == []
    assert run("table=5")[1].count("note: evaluation e: an ensemble that has one net twice: not shown") == 1
    store.evaluate("f", members[0], {**members[1], "trained_by": "run1.0", "weights": ["cd"]}, whole)
    assert {row["n"] for row in rows("table=5", origin="ensemble")} == {1}
