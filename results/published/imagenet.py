"""ImageNet: Tables 2 to 5 of the paper, the models its authors released, torchvision's, and the comparators."""

from results.published.figure import ERRORS, Net, Published

__all__ = ["IMAGENET"]

PAPER = "He et al. 2015, arXiv:1512.03385"
RELEASED = "https://github.com/KaimingHe/deep-residual-networks"
TORCHVISION = "torchvision, weights IMAGENET1K_V1"
Pair = tuple[float | None, float | None]  # top-1 and top-5, percent as they are printed


def _net(depth: int, shortcut: str, stride: str = "v1") -> Net:
    return Net("imagenet", depth, shortcut, stride)


def _errors(
    place: str, word: str, system: str | Net, percent: Pair, protocol: str, *, recipe: str = "paper",
    source: str = "", read: str = "paper", split: str = "val", bn: str | None = None,
    reads: tuple[str, str] | None = None,
) -> list[Published]:  # fmt: skip
    """Top-1 and top-5 of one system, where they are published; `reads` where they were read differently."""
    name = system.name if isinstance(system, Net) else system
    return [
        Published(
            place=place, shown_in=(word,), system=name, net=system if isinstance(system, Net) else None,
            dataset="imagenet", metric=metric, value=round(value / 100, 6), protocol=protocol, bn=bn, split=split,
            recipe=recipe, source=source or f"{PAPER}, {place}", read=how,
        )
        for metric, value, how in zip(ERRORS, percent, reads or (read, read), strict=True)
        if value is not None
    ]  # fmt: skip


_TABLE_2: list[tuple[Net, Pair]] = [
    (_net(18, "none"), (27.94, None)),
    (_net(34, "none"), (28.54, None)),
    (_net(18, "A"), (27.88, None)),
    (_net(34, "A"), (25.03, None)),
]
_TABLE_3: list[tuple[str | Net, Pair, str]] = [
    ("VGG-16", (28.07, 9.33), "VGG's"),
    ("GoogLeNet", (None, 9.15), "GoogLeNet's"),
    ("PReLU-net", (24.27, 7.38), "PReLU-net's"),
    (_net(34, "none"), (28.54, 10.02), "paper"),
    (_net(34, "A"), (25.03, 7.76), "paper"),
    (_net(34, "B"), (24.52, 7.46), "paper"),
    (_net(34, "C"), (24.19, 7.40), "paper"),
    (_net(50, "B"), (22.85, 6.71), "paper"),
    (_net(101, "B"), (21.75, 6.05), "paper"),
    (_net(152, "B"), (21.43, 5.71), "paper"),
]
_TABLE_4: list[tuple[Net, Pair, tuple[str, str]]] = [
    (_net(34, "B"), (21.84, 5.71), ("rec", "rec")),
    (_net(34, "C"), (21.53, 5.60), ("rec", "rec")),
    (_net(50, "B"), (20.74, 5.25), ("rec", "rec")),
    (_net(101, "B"), (19.87, 4.60), ("rec", "rec")),
    (_net(152, "B"), (19.38, 4.49), ("rec", "paper")),
]
_RELEASED: list[tuple[str | Net, Pair, str]] = [
    ("VGG-16", (28.5, 9.9), "VGG's"),
    (_net(50, "B"), (24.7, 7.8), "paper"),
    (_net(101, "B"), (23.6, 7.1), "paper"),
    (_net(152, "B"), (23.0, 6.7), "paper"),
]
# Its bottlenecks have stride v1.5; basic blocks have no such choice.
_TORCHVISION: list[tuple[Net, Pair]] = [
    (_net(18, "B"), (30.24, 10.92)),
    (_net(34, "B"), (26.69, 8.58)),
    (_net(50, "B", "v1.5"), (23.87, 7.14)),
    (_net(101, "B", "v1.5"), (22.63, 6.45)),
    (_net(152, "B", "v1.5"), (21.69, 5.95)),
]
_OWN_PAPERS: list[tuple[str, Pair, str]] = [
    ("AlexNet", (40.7, 18.2), "10-crop"),
    ("VGG-16", (25.6, 8.1), "single scale"),
    ("VGG-19", (25.5, 8.0), "single scale"),
    ("GoogLeNet", (None, 10.07), "1-crop"),
    ("GoogLeNet", (None, 7.89), "144-crop"),
]

IMAGENET: list[Published] = [
    *(one for net, pair in _TABLE_2 for one in _errors("Table 2", "table=2", net, pair, "10-crop")),
    *(
        one
        for system, pair, recipe in _TABLE_3
        for one in _errors("Table 3", "table=3", system, pair, "10-crop", recipe=recipe)
    ),
    *(
        one
        for net, pair, reads in _TABLE_4
        for one in _errors("Table 4", "table=4", net, pair, "multi-scale", reads=reads)
    ),
    *_errors("Table 5", "table=5", "six ResNets", (None, 3.57), "ensemble", split="test"),
    # The authors took the statistics of batch normalization over many training images after training.
    *(
        one
        for system, pair, recipe in _RELEASED
        for one in _errors(
            "released models", "table=3", system, pair, "1-crop", recipe=recipe, source=RELEASED, read="src",
            bn="exact" if isinstance(system, Net) else None,
        )
    ),
    *(
        one
        for net, pair in _TORCHVISION
        for one in _errors(
            "torchvision", "table=3", net, pair, "1-crop", recipe="torchvision's", source=TORCHVISION, read="unstated"
        )
    ),
    *(
        one
        for name, pair, protocol in _OWN_PAPERS
        for one in _errors(
            "its own paper", "table=3", name, pair, protocol, recipe=f"{name.partition('-')[0]}'s",
            source=f"the paper of {name}", read="rec",
        )
    ),
]  # fmt: skip
