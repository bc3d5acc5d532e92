"""Writes a page of plots and one table, in the look of the report."""

from collections.abc import Sequence
from pathlib import Path

from tercet.eval.report.curves import Chart
from tercet.eval.report.write import FILTERS
from tercet.page.write import environment, write_page


def write_plots(
    path: Path,
    name: str,
    about: Sequence[str],
    charts: Sequence[Chart],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> Path:
    """`about` are the lines below the title, `rows` those of the table."""
    page = environment("tercet.eval.report", FILTERS).get_template("plots.html")
    return write_page(path, page.render(name=name, about=about, charts=charts, columns=columns, rows=rows))
