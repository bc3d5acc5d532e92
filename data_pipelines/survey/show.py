"""Prints what `data check` and `data stats` found."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tercet.data_pipelines.survey.findings import EXAMPLES, Findings
from tercet.data_pipelines.survey.page import MEASURES, SHARED, share
from tercet.data_pipelines.survey.plots import LINEAR
from tercet.data_pipelines.survey.stats import LISTED, Stats
from tercet.plural import number_of

SHARDS = 10
NAMES = 4  # of the most frequent things in a line


def print_findings(findings: Findings, max_bad: float, listing: Path | None = None) -> None:
    console = Console(highlight=False)
    if findings.bad:
        console.print(_reasons(findings))
    if findings.worst:
        console.print(_shards(findings))
    colour = "green" if findings.clean(max_bad) else "red"
    console.print(f"[{colour}]{'✓' if findings.clean(max_bad) else '✗'}[/] {' '.join(findings.verdict(max_bad))}")
    for remark in findings.remarks():
        console.print(f"note: {remark}", soft_wrap=True, markup=False)
    if any(count > EXAMPLES for count in findings.reasons.values()):
        console.print(f"{listing or '--out FILE.html'} lists each of them.", style="dim", markup=False)


def print_stats(stats: Stats) -> None:
    console = Console(highlight=False)
    looked = f", {stats.tally.samples:,} of them looked at" if stats.tally.samples < stats.samples else ""
    pieces = f" in {stats.shards:,} shards" if stats.shards > 1 else ""
    console.print(f"{number_of(stats.samples, 'sample')}{pieces}{looked}")
    if stats.listed_by:
        console.print(f"list {stats.listed_by}", markup=False, soft_wrap=True)
    console.print(_values(stats))
    console.print(_counts(stats))


def _reasons(findings: Findings) -> Table:
    table = _table("what is wrong", "samples", "of all")
    table.add_column("where", overflow="fold")
    for reason, count in findings.reasons.most_common():
        some = [fault.name for fault in findings.examples[reason]]
        listed = ", ".join(some if len(some) == count else [*some, "…"])
        table.add_row(Text(reason), f"{count:,}", share(count, findings.samples), Text(listed))
    return table


def _shards(findings: Findings) -> Table:
    more = len(findings.worst) - SHARDS
    table = _table("where" + (f" ({number_of(more, 'shard')} more)" if more > 0 else ""), "samples", "bad")
    table.add_column("", overflow="fold")
    for shard in findings.worst[:SHARDS]:
        read = shard in findings.samples_of
        samples, bad = f"{findings.samples_of[shard]:,}" if read else "–", f"{findings.bad_in(shard).total():,}"
        table.add_row(Text(shard), samples, bad if read else "all", Text(findings.damaged.get(shard, ""), style="red"))
    return table


def _values(stats: Stats) -> Table:
    table = _table("", "count", "5 %", "median", "95 %", "largest")
    for name, measure in MEASURES.items():
        if values := stats.tally.values.get(name):
            to = (measure.axis or LINEAR).to if measure.unit == "dBFS" else float
            marked = (*map(values.quantile, (0.05, 0.5, 0.95)), values.most)
            quantiles = [f"{to(value * measure.factor):,.4g}" for value in marked]
            table.add_row(f"{measure.title}, {measure.unit}".rstrip(", "), f"{values.count:,}", *quantiles)
    return table


def _counts(stats: Stats) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    shown = {name: LISTED if name == "json" else NAMES for name in sorted(stats.tally.counts) if name != "text.caption"}
    lines = {name: stats.listed(name, most) for name, most in shown.items()}
    lines["lacking"] = [(kind, count) for kind, count in stats.lacking() if count]
    lines["templates"] = stats.templates()[:NAMES]
    for name, counts in lines.items():
        if counts:
            table.add_row(name, Text(", ".join(f"{thing} × {count:,}" for thing, count in counts)))
    for name, words in SHARED.items():
        if (sharing := stats.shared.get(name)) and sharing.groups:
            groups = number_of(sharing.groups, "group")
            table.add_row(f"share {words}", f"{number_of(sharing.samples, 'sample')} in {groups}")
    return table


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=bool(number))
    return table
