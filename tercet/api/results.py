"""Results of an evaluation, as tables in a terminal or a notebook; each number has its interval and chance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from rich.console import Group
from rich.text import Text

from tercet.api.measured import Hashes
from tercet.api.trained_on import TrainedOn
from tercet.errors import UserError, did_you_mean
from tercet.eval.missing import Missing, not_evaluated
from tercet.eval.result import Json, Result, to_json
from tercet.eval.tables.formats import csv_text, grid_markdown, result_lines
from tercet.eval.tables.formatting import heading, interval, shown
from tercet.eval.tables.grid import grid
from tercet.eval.tables.table import plain_text, render, tabulate
from tercet.page.write import environment

FILTERS = {"shown": shown, "interval": interval, "heading": heading}


class Results(Sequence[Result]):
    """Results in order, or by name: `results["image→text R@1"]`."""

    def __init__(
        self,
        results: Sequence[Result],
        model: str = "",
        trained_on: Mapping[str, TrainedOn] | None = None,
        hashes: Hashes | None = None,
        missing: Sequence[Missing] = (),
    ) -> None:
        """`trained_on`: by dataset, how many of its samples the model was trained on, where that is known. `hashes`:
        digests of the weights, the data and the task. `missing`: what could not be evaluated."""
        self.results, self.model, self.trained_on = tuple(results), model, dict(trained_on or {})
        self.hashes, self.missing = dict(hashes or {}), tuple(missing)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    @overload
    def __getitem__(self, at: int | str) -> Result: ...

    @overload
    def __getitem__(self, at: slice) -> "Results": ...

    def __getitem__(self, at: int | str | slice) -> "Result | Results":
        if isinstance(at, str):
            known = {result.name: result for result in reversed(self.results)}
            if at not in known:
                raise UserError(f"there is no result `{at}`; {did_you_mean(at, known)}")
            return known[at]
        if not isinstance(at, slice):
            return self.results[at]
        return Results(self.results[at], self.model, self.trained_on, self.hashes, self.missing)

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(one.dataset for one in self.results))

    def to_json(self) -> list[Json]:
        """One object per dataset and task, in the format of CLIP_benchmark; `error` says why one has no metrics."""
        known: dict[str, Json] = {dataset: {"trained_on": one.to_json()} for dataset, one in self.trained_on.items()}
        found: list[Json] = [
            {**one, "hashes": dict(self.hashes.get((str(one["dataset"]), str(one["task"])), {}))}
            for one in to_json(self.results, self.model)
        ]
        missing: list[Json] = [
            {"dataset": one.dataset, "model": self.model, "task": one.task, "metrics": {}, "error": one.why}
            for one in self.missing
        ]
        return [{**one, **known.get(str(one["dataset"]), {})} for one in (*found, *missing)]

    def to_csv(self) -> str:
        """A line for each number."""
        return csv_text(result_lines({self.model: self.results}))

    def to_markdown(self) -> str:
        """A table with a row for each number."""
        return grid_markdown({self.model: self.results})

    @property
    def warnings(self) -> list[str]:
        missing = not_evaluated(self.model, self.missing)
        return [*missing, *(warning for one in self.trained_on.values() for warning in one.warnings)]

    def drawn(self) -> Group:
        """For a rich console: a table for each task, or one table of several datasets."""
        several = len(self.datasets) > 1
        tables = grid({self.model: self.results}) if several else render(self.results)
        return Group(tables, *(Text(f"warning: {words}", style="bold red") for words in self.warnings))

    def __repr__(self) -> str:
        return plain_text(self.drawn())

    def _repr_html_(self) -> str:
        page = environment("tercet.api", FILTERS).get_template("tables.html")
        return page.render(tables=tabulate(self.results), warnings=self.warnings)
