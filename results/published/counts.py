"""Parameters and multiply-adds of the paper's networks and of those it stands beside, counted layer by layer.

Multiply-adds are those of convolutions and fully connected layers; parameters include batch normalization's. The paper
rounds its own (Table 1, and the parameters in Table 6): these are the exact integers of the same architectures.
"""

from results.published.figure import Metric, Net, Published

__all__ = ["COUNTS"]

SOURCE = "counted from the architectures of arXiv:1512.03385"

_IMAGENET: list[tuple[Net, int, int]] = [
    (Net("imagenet", 18, "none"), 11_515_688, 1_794_805_760),
    (Net("imagenet", 18, "A"), 11_515_688, 1_794_805_760),
    (Net("imagenet", 34, "none"), 21_623_848, 3_644_493_824),
    (Net("imagenet", 34, "A"), 21_623_848, 3_644_493_824),
    (Net("imagenet", 34, "B"), 21_797_672, 3_663_761_408),
    (Net("imagenet", 34, "C"), 22_716_840, 3_830_747_136),
    (Net("imagenet", 50, "B"), 25_557_032, 3_857_973_248),
    (Net("imagenet", 101, "B"), 44_549_160, 7_570_194_432),
    (Net("imagenet", 152, "B"), 60_192_808, 11_282_415_616),
]
_CIFAR: list[tuple[int, int]] = [
    (20, 269_722),
    (32, 464_154),
    (44, 658_586),
    (56, 853_018),
    (110, 1_727_962),
    (1202, 19_421_274),
]
_BESIDE: list[tuple[str, int, int]] = [
    ("AlexNet", 60_965_224, 724_406_816),
    ("VGG-16", 138_357_544, 15_470_264_320),
    ("VGG-19", 143_667_240, 19_632_062_464),
    ("GoogLeNet", 6_998_552, 1_582_671_872),
]


def _counted(
    place: str, word: str, system: str, net: Net | None, dataset: str, metric: Metric, value: int
) -> Published:
    return Published(
        place=place, shown_in=(word,), system=system, net=net, dataset=dataset, metric=metric, value=value,
        protocol="count", split="", recipe="", source=SOURCE, read="counted",
    )  # fmt: skip


_METRICS: tuple[Metric, Metric] = ("parameters", "multiply-adds")

COUNTS: list[Published] = [
    *(_counted("Table 1", "table=1", net.name, net, "imagenet", metric, count)
      for net, *counts in _IMAGENET for metric, count in zip(_METRICS, counts, strict=True)),
    *(_counted("counted", "table=1", name, None, "imagenet", metric, count)
      for name, *counts in _BESIDE for metric, count in zip(_METRICS, counts, strict=True)),
    # The paper's Table 6 has parameters alone.
    *(_counted("counted", "table=6", f"ResNet-{depth}", Net("cifar", depth, "A"), "cifar10", "parameters", count)
      for depth, count in _CIFAR),
]  # fmt: skip
