"""Numbers and the names of metrics as people read them."""

from tercet.eval.result import Result, is_rank

WORDS = {"acc1": "top-1", "acc1_aligned": "top-1 aligned", "acc5": "top-5", "mean_per_class_recall": "balanced"}


def shown(value: float | None, metric: str) -> str:
    """Shares in per cent, ranks as they are. A dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:.4g}" if is_rank(metric) else f"{100 * value:.1f}"


def with_unit(value: float, metric: str) -> str:
    return shown(value, metric) + unit(metric)


def heading(metric: str) -> str:
    """A metric in words, with its unit."""
    return f"{WORDS.get(metric, metric)}{unit(metric)}"


def unit(metric: str) -> str:
    return "" if is_rank(metric) else " %"


def interval(result: Result) -> str:
    if result.low is None:
        return "–"
    return f"{shown(result.low, result.metric)}–{shown(result.high, result.metric)}"
