"""Figures in words: percent as the paper prints them, who published them, and what a reader must know of each."""

from results.paper.measured import WEIGHTS, Group, Label
from results.published.figure import ERRORS, Published

__all__ = [
    "UNCHECKED",
    "error_text",
    "group_text",
    "label_text",
    "metric_text",
    "protocol_text",
    "published_text",
    "short",
    "source_text",
]

UNCHECKED = " [?]"  # after a source
_BOUND = {"": "", "about": "about ", "above": "above "}


def percent(value: float) -> str:
    """A fraction as the paper prints it."""
    return f"{100 * value:.2f}"


def figure_text(metric: str, value: float) -> str:
    """A figure of a metric: a count whole, anything else in percent."""
    return f"{value:,.0f}" if metric in ("parameters", "multiply-adds") else percent(value)


def error_text(one: Published) -> str:
    """A published figure alone, with what it is a bound of."""
    return _BOUND[one.bound] + figure_text(one.metric, one.value)


def published_text(one: Published) -> str:
    """A published figure, "best (mean ± deviation)" where it is of several runs; one that is recalled says so."""
    text = error_text(one)
    if one.mean is not None and one.std is not None:
        text += f" ({percent(one.mean)} ± {percent(one.std)})"
    return text + (" recalled" if one.read == "rec" else "")


def source_text(one: Published) -> str:
    """Whose figure it is, with what it would be wrong not to say of it."""
    said = [one.place]
    said += ["counted"] if one.read == "counted" and one.place != "counted" else []
    said += ["best epoch"] if one.epoch == "best" else []
    return ", ".join(said) + (UNCHECKED if one.read == "unstated" else "")


def group_text(group: Group, *, best: bool) -> str:
    """What was measured: one run's figure, else mean ± deviation, with the best before it where the paper has it so.

    Args:
        best: whether the published figure is the best of several runs.
    """
    metric, values = group.label.metric, [one.value for one in group.values]
    if metric not in ERRORS:
        return " or ".join(figure_text(metric, value) for value in sorted(set(values)))
    mean = group.mean
    if mean.deviation is None:
        return percent(mean.mean)
    text = f"{percent(mean.mean)} ± {percent(mean.deviation)}"
    return f"{percent(group.best)} ({text})" if best else text


def metric_text(one: Published) -> str:
    """A metric; with its dataset where a table has several."""
    return f"{one.metric}, {one.dataset}" if one.metric.startswith("mAP") else one.metric


def short(metric: str) -> str:
    """A metric where there is little room."""
    return {"parameters": "params", "multiply-adds": "mult-adds"}.get(metric, metric.removesuffix(" error"))


def protocol_text(one: Published) -> str:
    """Protocol of a published figure, with what else its source says of how it was measured."""
    said = [one.protocol]
    said += ["bn exact"] if one.bn == "exact" else []
    # What is measured here is never of ImageNet's test images: their labels are not published.
    said += ["test images"] if (one.dataset, one.split) == ("imagenet", "test") else []
    return ", ".join(said)


def label_text(label: Label) -> str:
    """Protocol, with everything that sets a figure apart."""
    said = [label.protocol]
    over = "" if label.bn_images is None else f" over {label.bn_images:,} images"
    said += [f"bn {label.bn}{over}"] if label.bn not in ("running", "") else []
    said += [label.copy] if label.copy else []
    said += [label.origin, label.of[:12]] if label.origin == WEIGHTS else []
    return ", ".join(said)
