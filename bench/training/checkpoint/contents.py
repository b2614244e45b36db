"""What a checkpoint says of itself, read without torch and believed only after it was checked."""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bench.training.checkpoint import rank_statistics
from bench.training.checkpoint.ancestor import Ancestor, named
from bench.training.checkpoint.folder import (
    MOMENTUM,
    NAME,
    STATE,
    STATISTICS,
    WEIGHTS,
    CheckpointError,
    home_of,
    others,
    parsed,
    read_text,
    regular,
    shown,
    verify,
)
from bench.training.checkpoint.rank_statistics import BUFFERS, Tensors
from bench.training.state import MOST, RunState
from resnet.architecture import TRAINING

KEY = TRAINING  # of the weights file's metadata
VERSION = 4  # 3 had none of within an epoch; 1 and 2 had the state there, and the momentum beside the weights file
IN_FOLDER = 3  # the first version that has a folder of its own
PARTS = {WEIGHTS, MOMENTUM, STATE}
ARCHITECTURE = ("family", "depth", "shortcut", "stride", "num_classes")  # in the weights file's metadata as well
FLOATS = ("F16", "BF16", "F32", "F64")
_RUN_ID = re.compile(r"[A-Za-z0-9._-]{0,128}", re.ASCII)
_WORD = re.compile(r"[a-z_]{1,40}(\.[a-z_]{1,40})?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What stands beside weights and momentum.

    Attributes:
        run_id: of the run that wrote it.
        restart: its restart count.
        net: in what a run that goes on from here may not differ, see `compatibility.net_of`.
        saved_at: seconds since 1970.
        state: how far the run had come.
        chain: the attempts that the writer went on from, the first one first.
        facts: in what attempts may differ: by column of `runs` the values of the chain in their order, each change
            once; None is a value that is not known. Empty in versions 1 and 2.
        dataset_hash: of the images; None where they were synthetic, or in versions 1 and 2.
        steps_per_epoch: optimizer steps; None in versions 1 and 2.
        loss_scaler: of fp16, see `engine.loss_scaler`; None where there is none.
        version: of the form in which it was read.
        momentum: versions 1 and 2: name of the file with the momentum, beside the weights file.
    """

    run_id: str
    restart: int
    net: dict[str, str]
    saved_at: float
    state: RunState
    chain: tuple[Ancestor, ...] = ()
    facts: dict[str, list[str | None]] = field(default_factory=dict)
    dataset_hash: str | None = None
    steps_per_epoch: int | None = None
    loss_scaler: dict[str, float] | None = None
    version: int = VERSION
    momentum: str = MOMENTUM

    @property
    def within(self) -> int:
        """Optimizer steps of an epoch that has not ended; 0 at the end of one."""
        done = self.state.epoch * self.steps_per_epoch if self.steps_per_epoch else self.state.step
        return max(self.state.step - done, 0)

    @property
    def left(self) -> Ancestor:
        """The attempt that wrote it, as one to go on from."""
        return Ancestor(run_id=self.run_id, restart=self.restart, epoch=self.state.epoch)

    def to_json(self) -> str:
        """One line of JSON: the content of `state.json`."""
        values = asdict(self)
        del values["momentum"]
        return json.dumps(values, sort_keys=True, allow_nan=False)


def writer_of(weights: Path) -> Ancestor | None:
    """The attempt that wrote a weights file, by what its metadata says; None where no run did."""
    try:
        version, values = _version(weights, _training(weights))
        if version >= IN_FOLDER:
            return named(str(values.get("checkpoint")))
        return _parse("", _from_version_1("", values) if version == 1 else values, version).left
    except CheckpointError:
        return None


def is_complete(weights: Path) -> bool:
    """Whether a weights file says that its run had nothing left to do; no where it does not say."""
    try:
        _, values = _version(weights, _training(weights))
    except CheckpointError:
        return False
    found = NAME.fullmatch(str(values.get("checkpoint")))
    words = values.get("net")
    if found is None or not isinstance(words, dict):
        return False
    step = int(found[0].split("-")[1])
    planned = {name: str(words.get(name)) for name in ("epochs", "steps")}
    done = {"epochs": int(found[1]), "steps": step}
    return any(planned[name].isdecimal() and count >= int(planned[name]) for name, count in done.items())


def locate(path: str) -> Path:
    """The weights file of the checkpoint that `path` means: in a folder of its own, or `path` itself where it is older.

    Args:
        path: what was typed for resume=: a file that save= wrote, or the weights file in a checkpoint's folder.

    Raises:
        CheckpointError: there is none.
    """
    weights = Path(os.path.realpath(path))  # a link that was typed is the user's own
    try:
        text = _training(weights)
        version, pointer = _version(weights, text)
        if version < IN_FOLDER:
            return weights
        name = pointer.get("checkpoint")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise CheckpointError(f"{weights}: {KEY}.checkpoint={shown(name)}: no name of a checkpoint")
        home = pointer.get("home")
        if not isinstance(home, str) or Path(home).name != home or not home.endswith(".checkpoints"):
            raise CheckpointError(f"{weights}: {KEY}.home={shown(home)}: no name of a folder of checkpoints")
        if weights.name == WEIGHTS and NAME.fullmatch(weights.parent.name):
            if weights.parent.name != name:
                raise CheckpointError(f"{weights}: {KEY}.checkpoint={name}: weights of another checkpoint")
            return weights
        return weights.parent / home / name / WEIGHTS
    except CheckpointError as error:
        raise CheckpointError(f"resume={path}: {error}{_other_of(weights)}") from None


def read(path: str) -> Checkpoint:
    """Read and check the whole of a checkpoint, but for what its tensors hold.

    Args:
        path: as of `locate`.

    Raises:
        CheckpointError: no such file, not a checkpoint, or anything of it is damaged, missing or of another one.
    """
    return read_at(path, locate(path))


def read_at(path: str, weights: Path) -> Checkpoint:
    """Read and check a checkpoint that was located; see `read`.

    Args:
        path: what was typed, for messages.
        weights: what `locate` found there. Links in it are not followed.
    """
    try:
        if NAME.fullmatch(weights.parent.name):
            verify(weights.parent, PARTS, {STATISTICS})
            state = weights.parent / STATE
            values = parsed(state, read_text(state))
            version = values.get("version")
            if type(version) is not int or not IN_FOLDER <= version <= VERSION:
                raise CheckpointError(f"{state}: version={shown(version)}: expected {IN_FOLDER} to {VERSION}")
            checkpoint = _parse(str(state), values, version)
            _check_place(weights, checkpoint)
        else:
            version, values = _version(weights, _training(weights))
            where = f"{weights}: {KEY}"
            checkpoint = _parse(where, _from_version_1(where, values) if version == 1 else values, version)
        _check_tensors(weights, checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"resume={path}: {error}{_other_of(weights)}") from None
    return checkpoint


def other_kept(path: str) -> str:
    """What else could be resumed from, as the end of a line: of the two that are kept the other one.

    Args:
        path: as of `locate`.
    """
    try:
        return _other_of(locate(path))
    except CheckpointError:
        return ""


def _other_of(weights: Path) -> str:
    inside = NAME.fullmatch(weights.parent.name) is not None
    home = weights.parent.parent if inside else home_of(weights)
    for name in others(home, weights.parent.name if inside else ""):
        place = home / name / WEIGHTS
        if place.is_file() and os.access(place, os.R_OK):
            return f"; resume={place} may do"
    return ""


def _training(weights: Path) -> str:
    """The training state in the metadata of a weights file."""
    if not os.path.lexists(weights):
        raise CheckpointError(f"{weights}: no such checkpoint")
    text = _header(weights)[1].get(KEY)
    if text is None:
        raise CheckpointError(f"{weights}: weights without a training state; a run's save=PATH writes one")
    return text


def _header(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Names, dtypes and shapes of the tensors of a file, and its metadata."""
    regular(path)
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {}
            for name in file.keys():  # noqa: SIM118
                slice_ = file.get_slice(name)
                tensors[name] = (str(slice_.get_dtype()), tuple(slice_.get_shape()))
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {shown(str(error), 80)}") from None


def _version(weights: Path, text: str) -> tuple[int, dict[str, Any]]:
    where = f"{weights}: {KEY}"
    values = parsed(where, text)
    version = values.get("version", 1)
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{where}.version={shown(version)}: expected a whole number")
    if version > VERSION:
        raise CheckpointError(f"{where}.version={shown(version)}: a later version wrote it; this reader knows 1 to 4")
    return version, values


def _from_version_1(where: str, values: dict[str, Any]) -> dict[str, Any]:
    """The state lay among the other values, the momentum's file was called `state`, and `net` was one text."""
    state = dict(values)
    taken = ("run_id", "restart", "net", "saved_at", "state")
    own: dict[str, Any] = {name: state.pop(name) for name in taken if name in state}
    text = own.get("net")
    if not isinstance(text, str) or not all("=" in word for word in text.split()):
        raise CheckpointError(f"{where}.net={shown(text)}: expected words such as depth=20")
    net = dict(word.split("=", 1) for word in text.split())
    return {**own, "net": net, "momentum": own.get("state"), "state": state}


def _parse(where: str, values: Mapping[str, Any], version: int) -> Checkpoint:
    """A checkpoint from JSON.

    Raises:
        CheckpointError: one line that names the field.
    """
    names = {"run_id", "restart", "net", "saved_at", "state", "version"}
    names |= {"chain", "facts", "dataset_hash", "steps_per_epoch", "loss_scaler"} if version >= 3 else {"momentum"}

    def fault(name: str, expected: str) -> CheckpointError:
        return CheckpointError(f"{where}.{name}={shown(values[name])}: expected {expected}")

    # Version 1 had no version among its values.
    if missing := sorted(names - set(values) - {"version"}):
        raise CheckpointError(f"{where}: {missing[0]} is missing")
    if unknown := sorted(set(values) - names):
        raise CheckpointError(f"{where}: {shown(unknown[0])} is no field of version {version}")
    if not _is_run_id(values["run_id"]):
        raise fault("run_id", "a run's id")
    if not _is_count(values["restart"]):
        raise fault("restart", "a whole number from 0 on")
    if not isinstance(values["net"], dict) or not all(isinstance(word, str) for word in values["net"].values()):
        raise fault("net", "words")
    if type(values["saved_at"]) not in (int, float) or not 0 <= values["saved_at"] < 1e11:  # until the year 5138
        raise fault("saved_at", "seconds since 1970")
    if not isinstance(values["state"], dict):
        raise fault("state", "an object")
    try:
        state = RunState.from_json(values["state"])
    except ValueError as error:
        raise CheckpointError(f"{where}.state.{shown(str(error), 120)}") from None
    own: dict[str, Any] = {name: values[name] for name in ("run_id", "restart", "net", "saved_at")}
    if version < 3:
        momentum = values["momentum"]
        fits = isinstance(momentum, str) and momentum not in ("", "..") and Path(momentum).name == momentum
        if not fits or "\0" in momentum:
            name = "state" if version == 1 else "momentum"
            raise CheckpointError(f"{where}.{name}={shown(momentum)}: expected the name of a file beside it")
        return Checkpoint(**own, state=state, version=version, momentum=momentum)
    if not isinstance(values["chain"], list) or not all(map(_is_ancestor, values["chain"])):
        raise fault("chain", "attempts, each with run_id, restart and epoch")
    if not isinstance(values["facts"], dict) or not all(_is_history(*item) for item in values["facts"].items()):
        raise fault("facts", "a list of texts for each")
    if values["dataset_hash"] is not None and not _is_run_id(values["dataset_hash"]):
        raise fault("dataset_hash", "a hash or null")
    if not _is_count(steps := values["steps_per_epoch"]) or not steps:
        raise fault("steps_per_epoch", "a whole number from 1 on")
    within = state.step - state.epoch * steps
    capped = own["net"].get("steps") == str(state.step)  # whose last epoch may be a part of one, and counts as done
    if not (0 <= within < (steps if version >= 4 else 1)) and not capped:
        raise CheckpointError(f"{where}.state.step={state.step}: {state.epoch} epochs of {steps} steps are others")
    if not _is_loss_scaler(values["loss_scaler"]):
        raise fault("loss_scaler", "scale and growth_tracker, or null")
    return Checkpoint(
        **own,
        state=state,
        chain=tuple(Ancestor(**entry) for entry in values["chain"]),
        facts=values["facts"],
        dataset_hash=values["dataset_hash"],
        steps_per_epoch=steps,
        loss_scaler=values["loss_scaler"],
        version=version,
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _is_run_id(value: object) -> bool:
    return isinstance(value, str) and _RUN_ID.fullmatch(value) is not None


def _is_ancestor(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"run_id", "restart", "epoch"}
        and _is_run_id(value["run_id"])
        and _is_count(value["restart"])
        and _is_count(value["epoch"])
    )


def _is_history(name: str, values: object) -> bool:
    texts = isinstance(values, list) and all(value is None or isinstance(value, str) for value in values)
    return texts and bool(values) and _WORD.fullmatch(name) is not None


def _is_loss_scaler(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or set(value) != {"scale", "growth_tracker"}:
        return False
    scale = value["scale"]
    return type(scale) is float and 0 < scale < math.inf and _is_count(value["growth_tracker"])


def _check_place(weights: Path, checkpoint: Checkpoint) -> None:
    """See that a folder is named after what is in it: else it was renamed, or its files are another's."""
    state, folder = checkpoint.state, weights.parent
    lead = f"{state.epoch:04d}-{state.step:08d}-{checkpoint.left.attempt}-"
    if not folder.name.startswith(lead):
        raise CheckpointError(f"{folder / STATE}: is of {lead}*, in the folder of another checkpoint")
    pointer = parsed(f"{weights}: {KEY}", _training(weights))
    if pointer.get("checkpoint") != folder.name:
        raise CheckpointError(f"{weights}: {KEY}.checkpoint={shown(pointer.get('checkpoint'))}: of another checkpoint")


def _check_tensors(weights: Path, checkpoint: Checkpoint) -> None:
    """See that weights and momentum are those of the configuration, each parameter with a momentum of its shape."""
    tensors, metadata = _header(weights)
    for word in ARCHITECTURE:
        ours, theirs = metadata.get(word), checkpoint.net.get(word)
        if theirs is not None and ours != theirs:
            raise CheckpointError(f"{weights}: weights of {word}={shown(ours)}, its state has {word}={shown(theirs)}")
    path = weights.with_name(checkpoint.momentum)
    if not os.path.lexists(path):
        raise CheckpointError(f"its momentum {path.name} is missing from the folder {path.parent}")
    momenta, _ = _header(path)
    if problem := next(_misfits(tensors, momenta), None):
        raise CheckpointError(f"{path}: its momentum does not fit the weights: {problem}")
    if checkpoint.within:
        path = weights.with_name(STATISTICS)
        found = _header(path)[0] if os.path.lexists(path) else None
        rank_statistics.check(path, found, tensors, checkpoint.net.get("world_size"), checkpoint.within)


def _misfits(tensors: Tensors, momenta: Tensors) -> Iterator[str]:
    parameters = {name: entry for name, entry in tensors.items() if not name.endswith(BUFFERS)}
    yield from (f"{shown(name)} is missing" for name in parameters if name not in momenta)
    yield from (f"{shown(name)} is of no parameter" for name in momenta if name not in parameters)
    for name, (dtype, shape) in momenta.items():
        if shape != parameters[name][1] or dtype not in FLOATS:
            expected = list(parameters[name][1])
            yield f"{shown(name)} is {dtype} {list(shape)}, expected floating point {expected}"
