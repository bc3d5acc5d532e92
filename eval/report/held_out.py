"""The held-out curve: the first metric of each evaluation over the steps of training, from `evaluations.jsonl`."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tercet.eval.report.curves import CHANCE, Chart, Points, chart
from tercet.eval.result import from_json
from tercet.eval.tables.formatting import heading
from tercet.eval.tables.table import tabulate

Evaluation = Mapping[str, Any]  # a step and the results as JSON


def held_out_chart(evaluations: Sequence[Evaluation]) -> list[Chart]:
    """A line for each split: the mean over the subjects of the first task, in per cent, and that of chance."""
    evaluated = {int(line["step"]): tabulate(from_json(line["results"])) for line in evaluations}
    lines: dict[str, Points] = {}
    for step, tables in sorted(evaluated.items()):
        splits = [table for table in tables if table.title == tables[0].title]
        for table in splits:
            lines.setdefault(table.dataset, []).append((step, 100 * fmean(one.value for one in table.first)))
        for table in splits[:1]:
            chances = [one.chance for one in table.first if one.chance is not None]
            if chances:
                lines.setdefault(CHANCE, []).append((step, 100 * fmean(chances)))
    metrics = {table.metrics[0] for tables in evaluated.values() for table in tables[:1]}
    drawn = len(evaluated) > 1 and len(metrics) == 1
    return [chart(f"Held-out {heading(*metrics)}", lines)] if drawn else []
