"""Compares two models on the same items: how far apart they are, and whether that is more than chance.

The interval is that of the paired difference, which is narrower than the intervals of two models side by side suggest,
because an item that is hard for one model is usually hard for the other. Each interval holds the true difference in 95
of 100 cases, so that among twenty metrics of two equally good models, expect one that excludes zero. Verdicts are
therefore given by p-values that are corrected for the number of rows: see `significance.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.measure import Measure
from tercet.eval.result import Json, interval_json
from tercet.eval.statistics.intervals import Estimate
from tercet.eval.statistics.scale import scale_of
from tercet.eval.statistics.significance import LEVEL, holm, p_value
from tercet.eval.tables.formatting import heading, shown

VERDICTS = {True: ("better", "green"), False: ("worse", "red"), None: ("undecided", "dim")}


@dataclass(frozen=True)
class Difference:
    """One metric of one subject: the scores of the baseline and of the other model, and the difference.

    `p` is the p-value of the difference alone, `p_holm` the one that is corrected over all rows that are compared.
    """

    subject: str
    metric: str
    task: str
    dataset: str
    baseline: float
    other: float
    apart: Estimate
    n: int
    p: float
    p_holm: float = 1.0

    @property
    def better(self) -> bool | None:
        """Whether the other model is better. None where the difference may be chance, or where more is not better."""
        better = scale_of(self.metric).better
        if better is None or self.p_holm > LEVEL:
            return None
        return (self.apart.low + self.apart.high > 0) == (better == "higher")

    @property
    def verdict(self) -> str:
        """Empty where neither more nor less is better."""
        return VERDICTS[self.better][0] if scale_of(self.metric).better else ""

    def to_json(self) -> Json:
        return {
            "dataset": self.dataset, "task": self.task, "subject": self.subject, "metric": self.metric,
            "baseline": self.baseline, "other": self.other, "difference": self.apart.value,
            "interval": interval_json(self.apart.low, self.apart.high), "p": self.p, "p_holm": self.p_holm,
            "verdict": self.verdict, "n": self.n,
        }  # fmt: skip

    def line(self) -> Json:
        """The same as a line of a CSV."""
        flat = self.to_json()
        del flat["interval"]
        return {**flat, "low": self.apart.low, "high": self.apart.high}


def same_items(first: EmbeddingTable, second: EmbeddingTable) -> None:
    """Fails unless both models embedded the same samples."""
    ids = [[sample.id for sample in table.samples] for table in (first, second)]
    if ids[0] != ids[1]:
        only = set(ids[0]) ^ set(ids[1])
        raise EvalError(f"only one of the models can use {len(only)} of the samples; remove them from the data")


def compare(baseline: Sequence[Measure], other: Sequence[Measure], dataset: str = "val") -> list[Difference]:
    """The differences of all metrics that both models have, in the baseline's order, corrected over these rows."""
    known = {(measure.task, measure.subject): measure for measure in other}
    shared = [one for one in baseline if (one.task, one.subject) in known]
    if not shared:
        raise EvalError("the two models share no metric: they need two modalities that both of them encode")
    return corrected([one for ours in shared for one in _differences(ours, known[ours.task, ours.subject], dataset)])


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences, with p-values that are corrected over all of them."""
    p_values = holm([one.p for one in differences])
    return [replace(one, p_holm=p_holm) for one, p_holm in zip(differences, p_values, strict=True)]


def _differences(baseline: Measure, other: Measure, dataset: str) -> list[Difference]:
    if not baseline.items.equal(other.items):
        raise EvalError(
            f"`{baseline.subject}` has other items for one model than for the other; evaluate both on the same data"
        )
    found = []
    for metric, before in baseline.statistics.items():
        if after := other.statistics.get(metric):
            apart = after.difference(before, baseline.groups)
            p = p_value(apart, after.degrees(before, baseline.groups))
            found.append(
                Difference(
                    baseline.subject, metric, baseline.task, dataset, before.value, after.value,
                    apart.within(-after.span, after.span), len(other.items), p,
                )
            )  # fmt: skip
    return found


def render_differences(name: str, baseline: str, differences: Sequence[Difference], rows: int) -> Table:
    """The table for a rich console: `name` against `baseline`, with a dataset that all share in the title. `rows`: how
    many the p-values are corrected for."""
    datasets = {difference.dataset for difference in differences}
    shared = "".join(datasets) if len(datasets) == 1 else ""
    title = Text(" · ".join(filter(None, (f"{name} against {baseline}", shared))), style="bold")
    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column("", no_wrap=True)
    for words in ("baseline", "this", "difference", "95 %", "p"):
        drawn.add_column(words, justify="right", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    above = ""
    for difference in differences:
        subject = " · ".join(filter(None, ("" if shared else difference.dataset, difference.subject)))
        if subject != above:
            drawn.add_section()
            drawn.add_row(Text(subject, style="bold"), Text(f"n = {difference.n}", style="dim"))
        metric, *cells = _cells(difference)
        drawn.add_row(Text(f"  {metric.plain}"), *cells)
        above = subject
    drawn.caption, drawn.caption_justify = (
        Text(f"95 %: the interval of the difference, on the same items; p: corrected over {rows} rows", style="dim"),
        "left",
    )
    return drawn


def _cells(difference: Difference) -> list[Text]:
    metric, apart = difference.metric, difference.apart
    return [
        Text(heading(metric)),
        Text(shown(difference.baseline, metric)),
        Text(shown(difference.other, metric)),
        Text(signed(apart.value, metric), style="bold"),
        Text(f"{signed(apart.low, metric)} to {signed(apart.high, metric)}", style="dim"),
        Text(shown_p(difference.p_holm)),
        Text(difference.verdict, style=VERDICTS[difference.better][1]),
    ]


def shown_p(p: float) -> str:
    return "<.001" if p < 0.001 else "1" if p > 0.999 else f"{p:.3f}".removeprefix("0")


def signed(value: float, metric: str) -> str:
    return f"{'+' if value > 0 else ''}{shown(value, metric)}"


MARKDOWN = ("model", "data", "subject", "metric", "baseline", "this", "difference", "95 %", "p", "verdict")


def markdown_cells(model: str, difference: Difference) -> list[str]:
    data = " · ".join(filter(None, (difference.dataset, difference.task)))
    return [model, data, difference.subject, *(cell.plain for cell in _cells(difference))]
