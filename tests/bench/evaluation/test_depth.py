"""The command that examines blocks: its rows are what was found, of one net."""

import errno
from pathlib import Path

import pytest
import saved_run
from small_nets import net

import resnet
from bench.depth import main, plan
from bench.evaluation.exact_bn import spread_rows
from bench.evaluation.lesions import Cut, Place, examine
from bench.evaluation.task import normalization, plain_batches
from bench.evaluation.verdict import costs
from results.store.files import read_rows


def test_rows_are_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.safetensors"
    resnet.save_weights(net(0, classes=10), path)
    words = [f"weights={path}", "dataset=digits", "images=200", "draws=3", f"results={tmp_path}/rows"]
    assert main(words) == 0
    rows, bad = read_rows(tmp_path / "rows", "lesions")
    of = plan(words).of
    cuts = [Cut("lesion", (Place(stage, 1),)) for stage in (1, 2, 3)]
    found = examine(of.nets[0].model, plain_batches(of, of.split, spread_rows(200, 360), normalization(of)), cuts)
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in {row["kind"] for row in rows}}
    assert bad == [] and {kind: len(each) for kind, each in kinds.items()} == {
        "whole": 1, "response": 6, "ratio": 3, "lesion": 3,  # stages of one block have no tail
    }  # fmt: skip
    (whole,) = kinds["whole"]
    assert whole["top1"] == found.right[None].mean() and whole["images"] == 200
    known = costs(found)
    for row, cut in zip(kinds["lesion"], cuts, strict=True):
        assert (row["stage"], row["block"], row["count"]) == (cut.places[0].stage, 1, 1)
        assert row["top1"] == pytest.approx(found.right[cut].mean())
        assert (row["cost"], row["low"], row["high"]) == (known[cut].mean, known[cut].low, known[cut].high)
    assert any(row["cost"] and row["low"] < row["cost"] < row["high"] for row in kinds["lesion"])
    assert {row["layer"]: row["value"] for row in kinds["response"]} == pytest.approx(found.responses)
    assert all(row["layer"].startswith(f"layer{row['stage']}.{row['block'] - 1}.") for row in kinds["response"])
    assert {row["layer"]: row["value"] for row in kinds["ratio"]} == pytest.approx(
        {place.name: ratio for place, ratio in found.ratios.items()}
    )
    out = capsys.readouterr().out
    assert "layer2.0" in out and "optimal depth" in out and whole["evaluation_id"] in out


def test_a_run_s_weights_are_known_by_their_run(tmp_path: Path) -> None:
    saved_run.save(tmp_path / "w.safetensors", saved_run.at(2), saved_run.untrained())
    assert main([f"weights={tmp_path}/w.safetensors", "images=2", f"results={tmp_path}/rows"]) == 0
    rows, _ = read_rows(tmp_path / "rows", "lesions")
    assert {(row["trained_by"], row["epoch"], row["dataset"], row["protocol"]) for row in rows} == {
        ("r.1", 2, "digits", "whole image"),
    }  # fmt: skip


def test_draws_and_seed_are_those_that_were_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "bench.evaluation.lesions.random_cuts", lambda model, draws, seed: seen.append((draws, seed)) or []
    )
    resnet.save_weights(net(0, classes=10), tmp_path / "w.safetensors")
    words = [f"weights={tmp_path}/w.safetensors", "dataset=digits", "images=2", f"results={tmp_path}/rows"]
    assert main(words) == main([*words, "draws=3", "seed=9"]) == 0
    assert seen == [(20, 0), (3, 9)]


def test_truncations_have_rows_beside_random_deletions(tmp_path: Path, weights: list[Path]) -> None:
    resnet.save_weights(net(0, depth=26, classes=10), tmp_path / "w.safetensors")
    words = [f"weights={tmp_path}/w.safetensors", "dataset=digits", "images=20", "draws=2", f"results={tmp_path}/rows"]
    assert main(words) == 0
    rows, _ = read_rows(tmp_path / "rows", "lesions")
    for kind, draws in (("truncation", None), ("deletion", 2)):
        found = [(row["stage"], row["count"], row["draws"]) for row in rows if row["kind"] == kind]
        assert found == [
            (stage, n, draws) for stage in (1, 2, 3) for n in ((1, 2, 3) if kind == "truncation" else (1, 2))
        ]


def test_what_was_found_is_printed_before_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w[red].safetensors"
    resnet.save_weights(net(0, classes=10), path)

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bench.evaluation.rows.write_once", full)
    assert main([f"weights={path}", "dataset=digits", "images=20", "draws=2", f"results={tmp_path}/rows"]) == 1
    out, err = capsys.readouterr()
    assert "layer2.0" in out and "optimal depth" in out and "No space left on device" in err


def test_one_net_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: list[Path]) -> None:
    assert main([f"weights={weights[0]},{weights[1]}", "dataset=digits"]) == 2
    assert "one net is examined at a time" in capsys.readouterr().err
    assert main([f"weights={weights[0]}", "draws=1"]) == 2
    assert "draws=1: draws takes a whole number, at least 2" in capsys.readouterr().err
