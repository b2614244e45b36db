"""Counts how often a run's decoder made up pixels of a damaged image: libjpeg says so on stderr and nowhere else."""

import os
import shlex
import stat

import torch

from bench.config.run_config import RunConfig
from bench.training.process_group import World
from bench.training.recorder import Recorder
from resnet.data import Splits, mended_images

_NO_FILE = "stderr is no file that can be read back"


class DecoderWarnings:
    """What libjpeg prints on this rank's stderr from now on, where that is a file that can be read back.

    Under the launcher and in its Slurm jobs each rank has such a file.

    Args:
        config: the run's configuration.
        splits: what it reads.
        device: of this rank.
    """

    def __init__(self, config: RunConfig, splits: Splits, device: torch.device) -> None:
        self._start, self._data = 0, config.data
        self._unknown = _unknown(config, splits, device)
        if not self._unknown:
            self._start = os.fstat(2).st_size

    def conclude(self, world: World, recorder: Recorder | None) -> None:
        """Add up what all ranks saw, and write it down on rank 0; every rank must call it."""
        count, first, file = 0, "", os.fstat(2)
        if not self._unknown:
            with open("/proc/self/fd/2", "rb") as printed:
                printed.seek(self._start)
                messages = mended_images(printed.read())
            count, first = len(messages), next(iter(messages), "")
        mine = torch.tensor([[file.st_dev, file.st_ino, count, bool(self._unknown)]], dtype=torch.float64)
        ranks = torch.cat(world.gather(mine)).tolist()
        if not recorder:
            return
        if any(unknown for *_, unknown in ranks):
            recorder.null(self._unknown or f"{_NO_FILE} on another rank", "decoder_warnings")
            return
        # Ranks that share a file have all seen the same.
        total = int(sum({(device, inode): count for device, inode, count, _ in ranks}.values()))
        recorder.update(decoder_warnings=total)
        if total:
            recorder.say(
                f"damaged images: pixels were made up {total:,} times{f' ({first})' if first else ''}; "
                f"python -m bench.check_data data={shlex.quote(str(self._data))} names them"
            )


def _unknown(config: RunConfig, splits: Splits, device: torch.device) -> str:
    """Why the warnings of a run cannot be counted, or an empty text."""
    if config.loader == "synthetic":
        return "synthetic images"
    if splits.train.images is not None:
        return "the images are not encoded"
    if config.loader == "torch":
        return "Pillow decodes, which keeps libjpeg's warnings to itself"
    if device.type != "cpu":
        return "decoded on the GPU, where nothing warns"
    if not stat.S_ISREG(os.fstat(2).st_mode):
        return _NO_FILE
    try:
        with open("/proc/self/fd/2", "rb"):
            return ""
    except OSError:
        return _NO_FILE
