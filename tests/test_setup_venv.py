"""Which versions .venv gets beside a torch that is there already."""

import re
from pathlib import Path

import pytest

import setup_venv

ROOT = Path(setup_venv.__file__).parent
PINS = (ROOT / "constraints.txt").read_text().splitlines()
TORCH = ["triton~=3.8.0; platform_system == 'Linux'", 'pyyaml; extra == "pyyaml"']


def beside(**there: str) -> dict[str, str]:
    """What the constraints say of each distribution, by name."""
    lines = setup_venv.pins_beside(PINS, {"torch": "2.14.1", **there}, TORCH)
    return dict(re.match(r"([\w.-]+)(.*)", line).groups() for line in lines)  # type: ignore[union-attr]


def test_what_is_there_stays_and_the_rest_is_pinned() -> None:
    found = beside(triton="3.9.1", pillow="11.0.0")
    assert (found["torch"], found["triton"]) == ("==2.14.1", "==3.9.1")
    assert "pillow" not in found
    for name in ("numpy", "pyyaml", "types-PyYAML", "deepspeed"):
        assert f"{name}{found[name]}" in PINS


def test_what_torch_asks_for_is_not_pinned_otherwise() -> None:
    assert "triton" not in beside()


def test_an_old_triton_gets_the_numpy_that_it_interprets_beside() -> None:
    assert beside(triton="3.8.0")["numpy"] == "<2.4"
    assert "numpy" not in beside(triton="3.8.0", numpy="2.4.6")  # which is there and stays
    assert f"numpy{beside(triton='3.9.0')['numpy']}" in PINS


def test_constraints_pin_everything_that_the_project_names() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(
        r"^(?:dependencies|wandb|trackio|mlflow|tensorboard|test|check) = \[(.*?)\]$", project, re.M | re.S
    )
    named = {setup_venv.normal(name) for text in lists for name in re.findall(r'"([\w.-]+)', text)}
    pins = [line for line in PINS if not line.startswith("#")]
    assert len(lists) == 7 and all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    assert {setup_venv.normal(line.partition("==")[0]) for line in pins} == named


def test_the_oldest_torch_is_the_project_s() -> None:
    assert f'"torch>={".".join(map(str, setup_venv.TORCH))}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("version", "old"), [("2.14.0a0+b558c986e8.nv25.11", False), ("2.9.1", True), ("2.11.0", False), ("3.0", False)]
)
def test_versions_are_compared_as_numbers(version: str, old: bool) -> None:
    assert (setup_venv.minor(version) < setup_venv.TORCH) == old
