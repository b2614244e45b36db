"""What each library holds of a run, read with the library itself: settings, figures and epochs, by name."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7  # of a LevelDB log, which wandb's offline files are


@dataclass
class Held:
    """A run as a tracker holds it; `epochs` by number."""

    settings: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    status: str = ""
    times: dict[int, float] = field(default_factory=dict)

    def add(self, name: str, step: int, value: float) -> None:
        kind, _, column = name.partition("/")
        if kind == "runs":
            self.figures[column] = value
        elif kind == "epochs":
            self.epochs.setdefault(step, {})[column] = value


def tensorboard(to: Path, project: str, run_id: str) -> Held:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(to / project / run_id), size_guidance={"tensors": 0})
    events.Reload()
    held = Held()
    for tag in events.Tags()["tensors"]:
        if tag.startswith("_hparams_"):
            continue
        for event in events.Tensors(tag):
            held.add(tag, event.step, float(make_ndarray(event.tensor_proto)))
            if tag.startswith("epochs/"):
                held.times[event.step] = event.wall_time
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    for name, value in HParamsPluginData.FromString(content).session_start_info.hparams.items():
        held.settings[name] = getattr(value, value.WhichOneof("kind"))
    return held


def mlflow(to: Path, project: str, run_id: str) -> Held:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{to}/mlflow.db")
    experiment = client.get_experiment_by_name(project)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`resnet_bench.run_id` = '{run_id}'")
    held = Held(settings=dict(run.data.params), status=run.info.status)
    for artifact in client.list_artifacts(run.info.run_id):
        text = Path(client.download_artifacts(run.info.run_id, artifact.path)).read_text()
        held.settings[artifact.path.removesuffix(".txt")] = text
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            held.add(name, metric.step, metric.value)
            if name.startswith("epochs/"):
                held.times[metric.step] = metric.timestamp / 1000
    return held


def trackio(to: Path, project: str, run_id: str) -> Held:
    from trackio.sqlite_storage import SQLiteStorage

    held = Held(settings=dict(SQLiteStorage.get_run_config(project, run_id) or {}))
    _logs(held, SQLiteStorage.get_logs(project, run_id))
    return held


def wandb(to: Path, project: str, run_id: str) -> Held:
    import json

    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = (to / project).glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")
    held, logs = Held(), []
    for data in _records(file.read_bytes()):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            assert (record.run.project, record.run.run_id) == (project, run_id)
            held.settings |= {one.key: json.loads(one.value_json) for one in record.run.config.update if one.key}
        elif kind == "history":
            logs.append(
                {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
            )
        elif kind == "exit":
            held.status = str(record.exit.exit_code)
    _logs(held, logs)
    return held


def _logs(held: Held, logs: list[dict[str, Any]]) -> None:
    for log in logs:
        for name, value in log.items():
            held.add(name, int(log.get("epoch", 0)), value)
        if "epoch" in log and "_timestamp" in log:
            held.times[int(log["epoch"])] = log["_timestamp"]


def _records(content: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log after wandb's own header of seven bytes."""
    place, part = HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        data = content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        part = part + data if kind in (3, 4) else data
        if kind in (1, 4):
            yield part
