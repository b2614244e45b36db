"""Ranks whose loaders are stalled after seconds in place of a minute, and may hang in a read."""

import os
import threading

from launch.job import Job

STALL_S = 4.0


class StarvedJob(Job):
    """A job that hangs in every read of the file that HANG_AT names: of its loaders, or (HANG_IN=open) before them."""

    def _run(self) -> None:
        # Before anything takes its values from there.
        from resnet.data.datasets import folders
        from resnet.data.images import encoded
        from resnet.data.loaders import patience

        patience.STALL_S, patience.LOOK_S = STALL_S, 1.0
        whole = encoded.read_file

        def read_file(path: str) -> bytes:
            if os.path.basename(path) == os.environ.get("HANG_AT"):
                threading.Event().wait()
            return whole(path)

        (folders if os.environ.get("HANG_IN") == "open" else encoded).read_file = read_file  # type: ignore[attr-defined]
        super()._run()
