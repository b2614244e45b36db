"""Pictures of the ladder that `bench.roofline` computes."""

import io
import json
import re

import pytest

from bench.roofline import command as roofline

pytestmark = pytest.mark.slow  # pictures are drawn

NET = {"family": "imagenet", "depth": 50, "shortcut": "B", "stride": "v1.5", "batch": 8, "image_size": 224,
       "precision": "bf16"}  # fmt: skip
CHIP = {"copy_bytes_per_s": 2.5e12, "flops_per_s": 123e12}
RUNGS = [{"level": "eager", "what": "unfused", "gb": 40.125, "ideal_ms": 20.52},
         {"level": "a", "what": "+ own $kernels$", "gb": 10.03125, "ideal_ms": 7.31}]  # fmt: skip


def spoilt(**changes):
    return json.dumps({"net": NET, "chip": CHIP, "measured": False, "ladder": RUNGS} | changes)


@pytest.fixture
def call(run, tmp_path):
    def draw(words, *more):
        (tmp_path / "ladder.json").write_text(words)
        return run(f"ladder={tmp_path / 'ladder.json'}", f"to={tmp_path / 'pictures'}", *more)

    return draw


def test_numbers_are_those_of_the_line(call, tmp_path, said, svg_of):
    status, out, err = call(spoilt())
    assert (status, err) == (0, "")
    svg = tmp_path / "pictures" / "ladder-ResNet-50-shortcut-B-stride-v1.5-batch8-224-bf16.svg"
    assert out.split() == [str(svg), str(svg.with_suffix(".png"))] and svg.stat().st_size < 100_000
    for word in ("ResNet-50 (shortcut B, stride v1.5): bytes", "computed, not measured", "batch 8, 224 x 224, bf16",
                 "assumed to have 2.5 TB/s and 123 TFLOP/s", "eager: unfused", "a: + own $kernels$", "40.1 GB, 20.5 ms",
                 "10.0 GB, 7.3 ms"):  # fmt: skip
        assert word in said(svg), word
    read = svg_of(svg)
    for place, rung in enumerate(RUNGS):
        assert read.on_scale("x", read.ends(f"level-{place}", "x")) == pytest.approx([0, rung["gb"]], abs=0.01)


def test_what_the_roofline_prints_is_drawn_from_stdin(run, tmp_path, monkeypatch, capsys, said):
    assert roofline.main(["depth=18,20", "batch=4", "--json"]) == 0
    printed = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(printed))
    status, out, err = run("ladder=-", f"to={tmp_path}")
    assert (status, err) == (0, "")
    for line, name in zip(printed.splitlines(), out.splitlines()[::2], strict=True):
        for rung in json.loads(line)["ladder"]:
            assert f"{rung['gb']:.1f} GB, {rung['ideal_ms']:.1f} ms" in said(name)
            assert f"{rung['level']}: {rung['what']}" in said(name)


def test_a_ladder_is_drawn_beside_a_run(training, run, tmp_path, call):
    root = training.attempt("20000101T000000-testonly", epochs=[{"epoch": 1, "elapsed_s": 1.0, "top1": 0.1}])
    status, out, err = call(spoilt(), f"results={root}")
    assert (status, err) == (0, "")
    assert [re.search(r"pictures/(\w+)-", line)[1] for line in out.splitlines()] == ["accuracy"] * 2 + ["ladder"] * 2


def test_the_same_line_gives_the_same_picture(call, tmp_path):
    found = []
    for _ in range(2):
        assert call(spoilt())[0] == 0
        (svg,) = (tmp_path / "pictures").glob("*.svg")
        found.append(svg.read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "it is empty"),
        (" \n\n", "it is empty"),
        ("\nlevel GB ms", "line 2 is no JSON"),
        ("[]", "line 1 is no ladder"),
        ("3", "line 1 is no ladder"),
        ("{}", "line 1 has no 'net'"),
        (spoilt(measured=True), "line 1 says measured=true"),
        (spoilt(ladder=[]), "line 1 has no level"),
        (spoilt(ladder=[{"level": "a", "what": "b", "gb": 1.0}]), "line 1 has no 'ideal_ms'"),
        (spoilt(ladder=[{**RUNGS[0], "gb": -1}]), "gb=-1, expected a number above 0"),
        (spoilt(ladder=[{**RUNGS[0], "gb": "1"}]), 'gb="1", expected a number above 0'),
        (spoilt(ladder=[{**RUNGS[0], "ideal_ms": float("nan")}]), "ideal_ms=NaN, expected a number above 0"),
        (spoilt(chip={}), "line 1 has no 'copy_bytes_per_s'"),
        (spoilt(net=NET | {"batch": "many"}), "line 1 is no ladder"),
        (spoilt() + "\n" + "{", "line 2 is no JSON"),
    ],
)
def test_what_is_no_ladder_is_refused(call, tmp_path, refused, words, message):
    done = call(words)
    assert refused(done, message) and "python -m bench.roofline" in done[2]
    assert not (tmp_path / "pictures").exists()


def test_words_that_do_not_go_together(run, tmp_path, refused):
    to, file = f"to={tmp_path / 'pictures'}", tmp_path / "ladder.json"
    file.write_text(spoilt())
    assert refused(run(to, "draw=ladder"), "add ladder=FILE")
    assert refused(run(to, f"ladder={file}", "draw=steps"), "nearest is draw=steps,ladder")
    assert refused(run(to, f"ladder={file}", "draw=ladder", "run=x"), "run=x: a ladder has no run")
    assert refused(run(to, f"ladder={tmp_path / 'missing'}"), "missing: No such file")
    assert refused(run(to, f"ladder={tmp_path}"), "Is a directory")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert refused(run(to, f"ladder={tmp_path / 'bytes'}"), "no text")


def test_a_name_stays_in_its_folder(call, tmp_path):
    status, out, _ = call(spoilt(net=NET | {"family": "../../x", "precision": "../y"}))
    assert status == 0
    assert {path.parent for path in tmp_path.rglob("*.svg")} == {tmp_path / "pictures"} and "/../" not in out


def test_two_ladders_of_one_name_are_refused(call, tmp_path):
    """They differ in the chip alone, which no file name says: the second would replace the first without a word."""
    status, out, err = call(f"{spoilt()}\n{spoilt(chip=CHIP | {'copy_bytes_per_s': 1.5e12})}")
    assert (status, out) == (2, "") and err.count("\n") == 1 and "line 2 would be written over ladder-" in err
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    "net", [{"batch": -3}, {"batch": 2.7}, {"batch": True}, {"image_size": float("inf")}, {"image_size": "224"}]
)
def test_a_net_that_cannot_be_is_refused(call, net):
    status, out, err = call(spoilt(net=NET | net))
    (name,) = net
    assert (status, out) == (2, "") and err.count("\n") == 1 and f"{name}=" in err


def test_a_number_too_large_is_refused(call):
    status, out, err = call(spoilt(ladder=[RUNGS[0] | {"gb": 10**400}]))
    assert (status, out) == (2, "") and err.count("\n") == 1
