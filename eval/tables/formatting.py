"""Numbers and the names of metrics as people read them."""

import re

from tercet.eval.result import Result
from tercet.eval.statistics.scale import scale_of

WORDS = {"mean_per_class_recall": "balanced"}
TOP = re.compile(r"(worst )?acc(\d+)")


def shown(value: float | None, metric: str) -> str:
    """Shares in per cent, ranks and other numbers as they are. A dash for what is not known."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if scale_of(metric).per_cent else f"{value:.4g}"


def with_unit(value: float, metric: str) -> str:
    return shown(value, metric) + unit(metric)


def words(metric: str) -> str:
    """The name of a metric in tables and sentences."""
    top = TOP.fullmatch(metric)
    return f"{top[1] or ''}top-{top[2]}" if top else WORDS.get(metric, metric)


def heading(metric: str) -> str:
    """A metric in words, with its unit."""
    return f"{words(metric)}{unit(metric)}"


def unit(metric: str) -> str:
    return " %" if scale_of(metric).per_cent else ""


def interval(result: Result) -> str:
    """Both ends, with a word between them if one is negative."""
    if result.low is None:
        return "–"
    low, high = shown(result.low, result.metric), shown(result.high, result.metric)
    return f"{low} to {high}" if result.low < 0 else f"{low}–{high}"
