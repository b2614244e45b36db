"""The tracked record gets the figures and nothing that names a machine."""

import socket
from datetime import UTC, datetime

import pytest

from results import export
from results.store import schema
from results.store.files import read_rows, read_table, table_path, write_once
from results.store.writer import RunWriter

UUID = "GPU-8f6a1c2e-1234-5678-9abc-def012345678"
SECRETS = [
    "gpu07",
    "gpu08",
    UUID,
    "8f6a1c2e",
    "/scratch",
    "alice",
    "photos",
    "10.1.2.3",
    "tree.jpg",
    "b0:26:28",
    "storage.example.org",
    "bin/python",
]


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "v1"
    writer = RunWriter(
        root,
        {
            "run_id": "20261122-abcd1234",
            "nodelist": "gpu[07-08],login1",
            "depth": 20,
            "dataset": "cifar10",
            "hardware": "8xNVIDIA A100",
            "config_json": '{"data": "/scratch/alice", "depth": 20, "extra": "/scratch/x"}',
            "null_reasons": {"mfu": "no peak for the card in gpu07.example.org"},
        },
    )
    writer.system(
        {
            "cpu_model": "EPYC 7742 @ 2.25 GHz",
            "hostname": "gpu07",
            "gpu_uuids": [UUID],
            "torch": "2.13.0+cu130",
            "nic": f"mlx5_0 b0:26:28:aa:bb:cc on {UUID}",
            "versions": {"python": "/scratch/bin/python 3.11"},
        }
    )
    writer.steps([{"rank": 0, "step": 0, "step_ms": 1.5}])
    writer.epoch({"epoch": 1, "top1": 0.5})
    writer.finish(
        "failed",
        failure_kind="data",
        failure_message=(
            "rank 3 on gpu08 (10.1.2.3): truncated JPEG '/scratch/alice/my photos/tree.jpg', also photos/tree.jpg at "
            "nfs://storage.example.org/alice; 1,234 images/s and 3/4 of them read"
        ),
    )
    return root


def test_nothing_that_names_a_machine_is_left(store, tmp_path):
    to = tmp_path / "record"
    written = export.export(store, ["20261122-abcd1234"], to)
    assert [path.parent.parent.name for path in written] == ["steps", "epochs", "system", "runs"]
    for path in written:
        found = schema.to_rows(read_table(to, path.parent.parent.name)[0])
        for secret in SECRETS:
            assert secret not in repr(found), (secret, path)
    [run], bad = read_rows(to, "runs")
    assert bad == [] and run["nodelist"] is None
    assert run["config_json"] == '{"depth": 20, "extra": "<path>"}'
    assert run["failure_message"].startswith("rank 3 on <host> (<address>): truncated JPEG '<path>'")
    assert run["failure_message"].endswith("1,234 images/s and 3/4 of them read")
    assert run["null_reasons"]["mfu"] == "no peak for the card in <host>"
    [system], _ = read_rows(to, "system")
    assert (system["hostname"], system["gpu_uuids"], system["torch"]) == (None, None, "2.13.0+cu130")
    assert system["cpu_model"] == "EPYC 7742 @ 2.25 GHz"
    assert system["versions"] == {"python": "<path> 3.11"}


def test_everything_else_stays(store, tmp_path):
    export.export(store, ["20261122-abcd1234"], tmp_path / "record")
    for table in ("steps", "epochs"):
        assert read_table(tmp_path / "record", table)[0].equals(read_table(store, table)[0])
    [before], [after] = read_rows(store, "runs")[0], read_rows(tmp_path / "record", "runs")[0]
    touched = {"nodelist", "config_json", "failure_message", "null_reasons"}
    assert {key: value for key, value in before.items() if key not in touched} == {
        key: value for key, value in after.items() if key not in touched
    }


def test_a_record_is_written_once_or_not_at_all(store, tmp_path):
    to = tmp_path / "record"
    written = export.export(store, ["20261122-abcd1234"], to)
    before = [path.read_bytes() for path in written]
    with pytest.raises(ValueError, match="exported already"):
        export.export(store, ["20261122-abcd1234"], to)
    assert [path.read_bytes() for path in written] == before
    written[-1].unlink()  # an export that died before its last file
    assert export.export(store, ["20261122-abcd1234"], to) == written[-1:]


def test_a_bad_file_stops_the_export_before_anything_is_written(store, tmp_path):
    path = next((store / "steps").rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="cannot be read"):
        export.export(store, ["20261122-abcd1234"], tmp_path / "record")
    assert not (tmp_path / "record").exists()


def test_this_host_is_taken_out_everywhere(tmp_path):
    scrubber = export.Scrubber(frozenset({"gpu7", "10.0.0.1"}))
    assert scrubber.text("GPU7, gpu7.a.b and gpu7-ib, not gpu77") == "<host>, <host> and gpu7-ib, not gpu77"
    writer = RunWriter(tmp_path / "v1", {"run_id": "r1", "nodelist": "gpu7"})
    name = socket.gethostname()
    writer.finish("failed", failure_kind="network", failure_message=f"cannot reach {name}:29500")
    export.export(tmp_path / "v1", ["r1"], tmp_path / "record")
    assert read_rows(tmp_path / "record", "runs")[0][0]["failure_message"] == "cannot reach <host>:29500"


def test_an_id_that_names_its_host_is_refused(tmp_path):
    RunWriter(tmp_path / "v1", {"run_id": "gpu7-20261122", "nodelist": "gpu7-20261122"}).finish("completed")
    with pytest.raises(ValueError, match="names its host"):
        export.export(tmp_path / "v1", ["gpu7-20261122"], tmp_path / "record")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/a", "<path>"),
        ("at ~/x/y.txt: no", "at <path>: no"),
        ("C:\\data\\x.jpg", "<path>"),
        ("file:///a/b", "<url>"),
        ("see (/a/b)", "see (<path>)"),
        ("path=/a/b,c", "path=<path>,c"),
        ("/data sets/my pictures/x.jpg is bad", "<path> is bad"),
        ("n01/x_1.JPEG", "<path>"),
        ("500 images/s, v1/v1.5, w/o, and/or, 3 / 4", None),
        ("torch 2.13.0", None),
        ("fe:ed:fa:ce:00:01", "<address>"),
        ("12:30:45", None),
    ],
)
def test_texts(text, wanted):
    assert export.Scrubber(frozenset()).text(text) == (text if wanted is None else wanted)


@pytest.mark.parametrize(
    ("nodelist", "hosts"),
    [
        ("a", {"a"}),
        ("a,b", {"a", "b"}),
        ("n[08-10,12]", {"n08", "n09", "n10", "n12"}),
        ("r[1-2]n[1,3]-ib,x", {"r1n1-ib", "r1n3-ib", "r2n1-ib", "r2n3-ib", "x"}),
        ("", set()),
    ],
)
def test_node_lists(nodelist, hosts):
    assert export.expand_hosts(nodelist) == hosts


def test_the_command(store, tmp_path, capsys):
    to = tmp_path / "record"
    assert export.main(["run=abcd1234", f"results={store}", f"to={to}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("20261122-abcd1234.0.parquet")
    for words, said in (
        (["run=abcd1234", f"results={store}", f"to={to}"], "exported already"),
        (["run=abce1234", f"results={store}"], "nearest is run=abcd1234"),
        ([f"results={store}"], "run=ID"),
        (["run=a", f"results={tmp_path}/none"], "no such folder"),
        (["rum=a"], "run="),
    ):
        assert export.main(words) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and said in err


def examine(root, table, evaluation_id, *rows, number=0):
    """Write rows as commands and runs do; each is laid over what is usual, with a host in its text."""
    usual = {
        "evaluation_id": evaluation_id, "created": datetime(2026, 11, 23, tzinfo=UTC), "trained_by": None, "epoch": 165,
        "weights": ["ab" * 32], "dataset": "cifar10", "split": "test", "protocol": "whole image", "images": 300,
        "hardware": "2xEPYC in gpu07.example.org, /scratch/alice",
    }  # fmt: skip
    kind = {"evaluations": {"bn": "running", "top1": 0.5}, "lesions": {"kind": "response", "stage": 1, "block": 1}}[
        table
    ]
    path = table_path(root, table, "2026-11", evaluation_id, number)
    write_once(path, [schema.to_table(table, [{**usual, **kind, **row} for row in rows])])


RUN = "20261122-abcd1234"


def test_what_was_found_out_about_its_net_goes_with_a_run(store, tmp_path):
    to = tmp_path / "record"
    own, second, other = {"trained_by": f"{RUN}.0"}, {"trained_by": f"{RUN}.1"}, {"trained_by": "20261122-other.0"}
    examine(store, "evaluations", "e1", {**own, "member": 1}, {**other, "member": 2}, {"member": None}, second)
    examine(store, "evaluations", "e2", other), examine(store, "evaluations", "e3", {"member": 1})
    examine(
        store, "lesions", "l1", {**own, "layer": "layer1.0.conv1", "value": 0.5}, {**own, "layer": "layer1.0.conv2"}
    )
    examine(store, "lesions", "l2", {"trained_by": f"{RUN}.5.0"})  # of a run whose id begins alike
    said = []
    written = export.export(store, [RUN], to, say=said.append)
    assert {path.relative_to(to).as_posix() for path in written if path.parent.parent.name in export.EXAMINED} == {
        "evaluations/month=2026-11/e1.0.parquet", "lesions/month=2026-11/l1.0.parquet"
    }  # fmt: skip
    assert written[-1].parent.parent.name == "runs" and said == ["evaluations: copied 2 rows", "lesions: copied 2 rows"]
    for table, count in (("evaluations", 2), ("lesions", 2)):
        found, bad = read_rows(to, table)
        whole = [row for row in read_rows(store, table)[0] if row["trained_by"] in (f"{RUN}.0", f"{RUN}.1")]
        assert bad == [] and len(found) == len(whole) == count
        for after, before in zip(found, whole, strict=True):
            assert after == {**before, "hardware": "2xEPYC in <host>, <path>"}


def test_words_of_fixed_lists_and_ids_stay_whatever_hosts_are_called(store, tmp_path):
    names = ["exact", "train", "10-crop", "lesion", "figure7", "small", "ab" * 32, "layer1", "1-crop"]
    writer = RunWriter(store, {"run_id": "r2", "nodelist": ",".join(names), "experiment": "figure7", "scale": "small",
                               "eval_protocol": "1-crop"})  # fmt: skip
    writer.finish("completed")
    row = {"trained_by": "r2.0", "split": "train", "hardware": "lesion"}
    examine(store, "evaluations", "e1", {**row, "bn": "exact", "protocol": "10-crop"})
    examine(store, "lesions", "l1", {**row, "kind": "lesion", "layer": "layer1.0"})
    export.export(store, ["r2"], tmp_path / "record")
    for table in ("evaluations", "lesions"):
        assert read_rows(tmp_path / "record", table)[0] == [{**read_rows(store, table)[0][0], "hardware": "<host>"}]
    (run,) = read_rows(tmp_path / "record", "runs")[0]
    assert (run["experiment"], run["scale"], run["eval_protocol"]) == ("figure7", "small", "1-crop")


def test_what_came_after_a_run_was_exported_is_added_and_nothing_is_overwritten(store, tmp_path):
    to = tmp_path / "record"
    examine(store, "evaluations", "e1", {"trained_by": f"{RUN}.0"}, {"trained_by": "20261122-other.0"}, {"top1": 0.7})
    export.export(store, [RUN], to)
    before = {path: path.read_bytes() for path in to.rglob("*.parquet")}
    examine(store, "lesions", "l1", {"trained_by": f"{RUN}.0"})
    said = []
    (added,) = export.export(store, [RUN], to, say=said.append)
    assert added.name == "l1.0.parquet" and said == [f"lesions: copied 1 row; exported already: run={RUN}"]
    with pytest.raises(ValueError, match="exported already"):
        export.export(store, [RUN], to)
    # The other rows of a command go into a file beside that of the first.
    (rest,) = export.export(store, [], to, ["e1"])
    assert rest.name == "e1.1.parquet" and {path: path.read_bytes() for path in before} == before
    found, bad = read_rows(to, "evaluations")
    assert bad == [] and [row["trained_by"] for row in found] == [f"{RUN}.0", "20261122-other.0", None]
    with pytest.raises(ValueError, match="evaluation=e1: exported already"):
        export.export(store, [], to, ["e1"])


def test_evaluations_of_weights_that_no_run_saved_are_named(store, tmp_path, capsys):
    to = tmp_path / "record"
    examine(store, "evaluations", "20261123-evaluation-aaaa1111", {"member": 1}, {"member": None})
    examine(store, "lesions", "20261123-lesion-bbbb2222", {"trained_by": None})
    words = [f"results={store}", f"to={to}"]
    assert export.main(["evaluation=aaaa1111,bbbb2222", *words]) == 0
    out, err = capsys.readouterr()
    assert [line.rpartition("/")[2] for line in out.splitlines()] == [
        "20261123-evaluation-aaaa1111.0.parquet", "20261123-lesion-bbbb2222.0.parquet"
    ]  # fmt: skip
    assert err.splitlines() == ["evaluations: copied 2 rows", "lesions: copied 1 row"]
    for table in export.EXAMINED:
        assert {row["hardware"] for row in read_rows(to, table)[0]} == {"2xEPYC in <host>, <path>"}
    assert not (to / "runs").exists()
    assert export.main(["evaluation=aaaa1112", *words]) == 2
    assert "evaluation=aaaa1112: no such evaluation" in (said := capsys.readouterr().err) and "aaaa1111" in said


def test_an_evaluation_whose_ids_name_a_host_is_refused(store, tmp_path):
    examine(store, "evaluations", "gpu07.0x", {}), examine(store, "lesions", "l1", {"trained_by": "login1.0"})
    for one, said in (("gpu07.0x", "evaluation=gpu07.0x: the id"), ("l1", "evaluation=l1: run=login1: the id")):
        with pytest.raises(ValueError, match=said):
            export.export(store, [], tmp_path / "record", [one])
    assert not (tmp_path / "record").exists()


def test_a_damaged_evaluation_is_named_and_stops_what_asks_for_it(store, tmp_path):
    examine(store, "evaluations", "e1", {"trained_by": f"{RUN}.0"})
    path = table_path(store, "evaluations", "2026-11", "e1", 0)
    path.write_bytes(path.read_bytes()[:50])
    said = []
    with pytest.raises(ValueError, match="e1.0.parquet: cannot be read"):
        export.export(store, [RUN], tmp_path / "record", ["e1"])
    assert not (tmp_path / "record").exists()
    export.export(store, [RUN], tmp_path / "record", say=said.append)
    assert len(said) == 1 and said[0].startswith(f"left out, whosever rows it has: {path}: ")
    with pytest.raises(ValueError, match="evaluation=e9: has no rows"):
        export.export(store, [], tmp_path / "record", ["e9"])
