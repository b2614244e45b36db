"""A store in which a few things happen, and the page that is made of it."""

import sys
from pathlib import Path

import pytest

from results.report.page.build import Page, page_of
from results.report.page.evidence import Evidence, gathered

sys.path.insert(0, str(Path(__file__).resolve().parent))

import made_up_year


@pytest.fixture(scope="session")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight nights, of which five are accepted."""
    root = tmp_path_factory.mktemp("year")
    made_up_year.write_year(root, made_up_year.NIGHTS, made_up_year.ACCEPTED)
    return root


@pytest.fixture(scope="session")
def evidence(year: Path) -> Evidence:
    return gathered(year, {}, ())


@pytest.fixture(scope="session")
def page(evidence: Evidence) -> Page:
    return page_of(evidence)
