"""A throw-away Slurm for the tests of this folder that are marked `slurm`: one for all, and as new for each.

They run under `make test-slurm` alone, which ends their Slurm whatever becomes of them; everywhere else they skip.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from make_slurm import VARIABLE  # noqa: E402
from throwaway.cluster import Cluster, cluster  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slurm") and VARIABLE not in os.environ:
        pytest.skip("needs a real Slurm, which make test-slurm brings up (root on Debian or Ubuntu)")


@pytest.fixture(scope="session")
def slurm_of_session() -> Iterator[Cluster]:
    with cluster(Path(os.environ[VARIABLE])) as found:
        yield found


@pytest.fixture
def slurm(slurm_of_session: Cluster) -> Iterator[Cluster]:
    """Four nodes, n1 to n4, all idle, and no job."""
    yield slurm_of_session
    slurm_of_session.restore()
