"""Writes the report: one HTML file that needs neither a network nor a library.

Captions and names come from data and may be hostile: everything is escaped, and media are embedded as base64.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tercet.eval.report.analysis import analysis_charts
from tercet.eval.report.curves import Record, charts, line_of_weights, read_lines
from tercet.eval.report.gallery import Gallery
from tercet.eval.report.held_out import held_out_chart
from tercet.eval.report.media import data_uri
from tercet.eval.report.selection import SelectedStep, selection_charts
from tercet.eval.result import Result
from tercet.eval.tables.formatting import heading, interval, shown, unit
from tercet.eval.tables.table import tabulate
from tercet.page.write import environment, write_page

FILTERS = {"shown": shown, "interval": interval, "heading": heading, "unit": unit, "data_uri": data_uri}


def write_report(
    folder: Path,
    name: str,
    results: Sequence[Result],
    galleries: Sequence[Gallery] = (),
    config: str = "",
    facts: Mapping[str, str] | None = None,
    curve: Mapping[float, Sequence[Result]] | None = None,
    warnings: Sequence[str] = (),
    selected: Sequence[SelectedStep] = (),
) -> Path:
    """Writes `report.html` into a run's folder, with the curves of its `metrics.jsonl` and `evaluations.jsonl`.

    `config` is the resolved recipe, `facts` what else a reader needs to repeat the run: versions, machine, commit.
    `curve` holds the results of weights on the line from those before training (0) to those after it (1). `warnings`
    stand above all numbers. `selected` has samples that a selection chose and left.
    """
    records = [line for line in read_lines(folder / "metrics.jsonl") if "event" not in line]
    evaluations = read_lines(folder / "evaluations.jsonl")
    drawn = charts(records)  # the loss first, then what is held out beside it
    page = environment("tercet.eval.report", FILTERS).get_template("report.html").render(
        name=name,
        facts=facts or {},
        tables=tabulate(results),
        charts=[*drawn[:1], *held_out_chart(evaluations), *drawn[1:], *line_of_weights(curve or {})],
        analysis=analysis_charts(records),
        selection=selection_charts(records),
        selected=selected,
        warnings=warnings,
        journey=_journey(records) if records else [],
        galleries=galleries,
        config=config,
    )  # fmt: skip
    return write_page(folder / "report.html", page)


def _journey(records: Sequence[Record]) -> list[str]:
    """How far the run went, in words. The time includes breaks before a resume."""
    first, last = records[0], records[-1]
    facts = [f"{last['step']:,} steps"]
    drawn = f" of {last['drawn']:,} drawn" if "drawn" in last else ""
    facts += [f"{last['samples']:,} samples{drawn}"] if "samples" in last else []
    facts += [_duration(last["time"] - first["time"])] if "time" in last else []
    return facts + ([f"{last['skipped']:,} bad samples skipped"] if last.get("skipped") else [])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
