"""Writes the page. Captions, keys and values come from data and may be hostile: everything is escaped."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tercet.data_pipelines.curate.database import Engine, Scores
from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.curate.report.balance import read_balance
from tercet.data_pipelines.curate.report.examples import Examples, examples_of
from tercet.data_pipelines.curate.report.histogram import ColumnPlot, column_plot
from tercet.data_pipelines.curate.report.shares import ShareTable, share_table
from tercet.data_pipelines.curate.rules.balance import CONCEPTS
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.selected import Selected
from tercet.data_pipelines.source import Source
from tercet.errors import UserError
from tercet.page.write import environment, write_page

NUMBERS = ("int", "uint", "float", "double", "halffloat")
WHOLE = ("int", "uint")
TEXT = "signals.text"
REASONS = 12  # rules whose examples are shown
SCORES_SHOWN = 3  # below an example


def write_report(table: ScoreTable, name: str, out: Path, data: Mapping[str, Source], memory: str = "4GB") -> Path:
    """`data`: opened sources by their names in the table, to show pictures and sounds of."""
    table.group(name)
    selected = Selected.read(table.folder / name)
    if selected is None:
        raise UserError(f"{table.folder / name} is not a complete decision; run the same `tercet curate select` again")
    with TemporaryDirectory(prefix=".tercet-", dir=out.parent) as scratch:
        report = _Report(table, name, selected, Engine(Path(scratch), memory))
        page = environment("tercet.data_pipelines.curate.report", FILTERS).get_template("report.html")
        text = page.render(
            name=name,
            table=table,
            selected=selected,
            plots=report.plots(),
            shares=report.shares(),
            balance=read_balance(table.folder / name / CONCEPTS),
            examples=report.examples(data),
        )
    return write_page(out, text)


def share(part: int, whole: int) -> str:
    return f"{100 * part / (whole or 1):.3g} %"


FILTERS = {"share": share}


class _Report:
    """What the page shows, by queries over the scores and the decision."""

    def __init__(self, table: ScoreTable, name: str, selected: Selected, engine: Engine) -> None:
        self._scores, self._name, self._selected = Scores(table), name, selected
        self._entering = Entering(self._scores, None, selected.samples, engine.scratch, f"report of {name}", engine)

    def plots(self) -> list[ColumnPlot]:
        found = []
        for column, kind in self._columns():
            if kind.rstrip("0123456789") in NUMBERS:
                whole = kind.rstrip("0123456789") in WHOLE
                found.append(column_plot(self._entering, column, self._name, whole))
        return [plot for plot in found if plot]

    def shares(self) -> list[ShareTable]:
        """Of columns with few values."""
        kinds = [column for column, kind in self._columns() if kind in ("bool", "string") and column != TEXT]
        found = [share_table(self._entering, column, self._name) for column in kinds]
        return [one for one in found if one]

    def examples(self, data: Mapping[str, Source]) -> list[Examples]:
        reasons = self._entering.query(
            f"SELECT why FROM ({self._scores.relation(self._name)}) WHERE why IS NOT NULL "
            f"GROUP BY why ORDER BY count(*) DESC, why LIMIT {REASONS}"
        )
        wanted = [None, *reasons["why"].to_pylist()]
        columns = self._shown()
        return [examples_of(self._entering, self._name, why, columns, data) for why in wanted]

    def _shown(self) -> dict[str, str]:
        """The caption, and what the rules name."""
        names = [column for column, _ in self._columns()]
        rules = " ".join(rule.rule for stage in self._selected.stages for rule in stage.rules)
        named = [name for name in names if name in rules and name != TEXT][:SCORES_SHOWN]
        return ({"caption": TEXT} if TEXT in names else {}) | {name: name for name in named}

    def _columns(self) -> list[tuple[str, str]]:
        """Those of all groups that are not decisions, with their types."""
        return [
            (f"{group}.{column}", kind)
            for group in self._scores.groups
            if Selected.read(self._scores.table.folder / group) is None
            for column, kind in self._scores.columns(group).items()
        ]
