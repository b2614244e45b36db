"""CIFAR-10: Table 6 and Figures 1 and 6 of the paper, independent repetitions, and the comparators."""

from results.published.figure import Net, Published
from results.published.imagenet import PAPER

__all__ = ["CIFAR"]

WHOLE = "whole image"
AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10"
# Best of five runs, with their mean and standard deviation, where the paper gives these; percent.
_FIVE: dict[str, tuple[float, float]] = {"ResNet-110": (6.61, 0.16), "Highway-19": (7.72, 0.16)}

_TABLE_6: list[tuple[int, float]] = [(20, 8.75), (32, 7.51), (44, 7.17), (56, 6.97), (110, 6.43), (1202, 7.93)]
_BESIDE: list[tuple[str, float]] = [
    ("Maxout", 9.38),
    ("NIN", 8.81),
    ("DSN", 8.22),
    ("FitNet-19", 8.39),
    ("Highway-19", 7.54),
    ("Highway-32", 8.80),
]
_FIGURE_6: list[tuple[int, float, str]] = [
    (20, 9.5, "about"),
    (32, 10.0, "about"),
    (44, 12.0, "about"),
    (56, 13.5, "about"),
    (110, 60.0, "above"),
]
_AKAMASTER: list[tuple[int, float]] = [(20, 8.27), (32, 7.37), (44, 6.90), (56, 6.61), (110, 6.32)]
_A_MARTYN: list[tuple[int, float]] = [(20, 9.5), (32, 9.92), (44, 11.35), (56, 12.76)]
_PARAMETERS: list[tuple[str, float, str, str]] = [
    ("NIN", 966_986, "", "src"),
    ("FitNet-19", 2.5e6, "about", "src"),
    ("Highway-19", 2_256_838, "", "src"),
    ("Highway-32", 1.25e6, "about", "unstated"),
]


def _fraction(percent: float) -> float:
    return round(percent / 100, 6)


def _error(
    place: str, shown_in: tuple[str, ...], system: str | Net, percent: float, *, recipe: str, source: str = "",
    read: str = "paper", epoch: str | None = None, bound: str = "", five: bool = False,
) -> Published:  # fmt: skip
    name = system.name if isinstance(system, Net) else system
    mean, std = _FIVE[name] if five else (None, None)
    return Published(
        place=place, shown_in=shown_in, system=name, net=system if isinstance(system, Net) else None,
        dataset="cifar10", metric="top-1 error", value=_fraction(percent),
        mean=None if mean is None else _fraction(mean), std=None if std is None else _fraction(std),
        runs=5 if five else None, protocol=WHOLE, split="test", epoch=epoch, recipe=recipe,
        source=source or f"{PAPER}, {place}", read=read, bound=bound,
    )  # fmt: skip


def _residual(depth: int) -> Net:
    return Net("cifar", depth, "A")


def _plain(depth: int) -> Net:
    return Net("cifar", depth, "none")


def _figures(depth: int) -> tuple[str, ...]:
    """Figure 1 has the plain nets of 20 and 56 layers, Figure 6 all of them."""
    return ("table=6", "figure=1", "figure=6") if depth in (20, 56) else ("table=6", "figure=6")


CIFAR: list[Published] = [
    *(_error("Table 6", ("table=6",), name, error, recipe=f"{name.partition('-')[0]}'s", five=name in _FIVE)
      for name, error in _BESIDE),
    *(_error("Table 6", ("table=6", "figure=6"), _residual(depth), error, recipe="paper", five=depth == 110)
      for depth, error in _TABLE_6),
    *(_error("Figure 6", _figures(depth), _plain(depth), error, recipe="paper", bound=bound)
      for depth, error, bound in _FIGURE_6),
    _error("its authors' log", ("table=6",), "Highway-19", 7.86, recipe="Highway's", source="the log of its authors",
           read="src", epoch="last"),
    *(_error("akamaster", ("table=6",), _residual(depth), error, recipe="akamaster's", source=AKAMASTER,
             read="unstated", epoch="best") for depth, error in _AKAMASTER),
    *(_error("a-martyn", ("table=6",), _plain(depth), error, recipe="a-martyn's", source="a-martyn, GitHub",
             read="unstated") for depth, error in _A_MARTYN),
    *(Published(place="its own paper", shown_in=("table=6",), system=name, dataset="cifar10", metric="parameters",
                value=value, protocol="count", split="", recipe="", source=f"the paper of {name.partition('-')[0]}",
                read=read, bound=bound) for name, value, bound, read in _PARAMETERS),
]  # fmt: skip
