"""The measures of the embedding space over the steps of training, from the `analysis/…` numbers of `metrics.jsonl`."""

from collections.abc import Sequence
from dataclasses import replace

from tercet.eval.report.curves import Chart, Record, chart, keys, series

MEASURES = (  # the name of a measure, the title of its chart, and how to read it
    ("alignment", "Alignment", "Mean squared distance of positive pairs; 0 if equal, about 2 if unrelated."),
    ("uniformity", "Uniformity", "0 if all vectors are equal, near −4 if they spread evenly."),
    ("modality_gap", "Modality gap", "Distance between the mean vectors of two fields."),
    ("effective_rank", "Effective rank", "How many dimensions the vectors use. A fall towards 1 is a collapse."),
    ("penalty_entropy", "Penalty entropy", "1 if all negatives repel an anchor alike, 0 if only the hardest one does."),
    ("mir", "Matrix mutual information ratio", "From 0 to 1: how much structure two fields have in common."),
    ("masked", "Masked keys", "Share of the keys that are no negatives, because of equal groups or a filter."),
)


def analysis_charts(records: Sequence[Record]) -> list[Chart]:
    """A chart for each measure, with a line for each term or field. One that is always 0 has none."""
    found = []
    for measure, title, note in MEASURES:
        names = [name for name in keys(records) if name.startswith("analysis/") and name.endswith(f"/{measure}")]
        lines = {name.removeprefix("analysis/").removesuffix(f"/{measure}"): series(records, name) for name in names}
        if any(len(points) > 1 and any(y for _, y in points) for points in lines.values()):
            found.append(replace(chart(title, lines), note=note))
    return found
