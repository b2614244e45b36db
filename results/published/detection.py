"""Object detection: Tables 7 and 8 of the paper, Faster R-CNN on two networks. This suite trains no detector."""

from results.published.figure import Metric, Published
from results.published.imagenet import PAPER

__all__ = ["DETECTION"]

_ROWS: list[tuple[str, str, str, Metric, float, float]] = [
    ("Table 7", "VOC 2007", "test", "mAP", 73.2, 76.4),
    ("Table 7", "VOC 2012", "test", "mAP", 70.4, 73.8),
    ("Table 8", "COCO", "val", "mAP@.5", 41.5, 48.4),
    ("Table 8", "COCO", "val", "mAP@[.5,.95]", 21.2, 27.2),
]

DETECTION: list[Published] = [
    Published(
        place=place, shown_in=(place.lower().replace(" ", "="),), system=f"Faster R-CNN on {backbone}",
        dataset=dataset, metric=metric, value=round(percent / 100, 6), protocol="detection", split=split,
        recipe="Faster R-CNN, baseline", source=f"{PAPER}, {place}", read="paper",
    )
    for place, dataset, split, metric, *both in _ROWS
    for backbone, percent in zip(("VGG-16", "ResNet-101"), both, strict=True)
]  # fmt: skip
