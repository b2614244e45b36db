"""The tracked record gets the figures and nothing that names a machine."""

import socket

import pytest

from results import export
from results.store import schema
from results.store.files import read_rows, read_table
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
