"""Results of an evaluation, as tables in a terminal or a notebook; each number has its interval and chance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from rich.console import Group
from rich.text import Text

from tercet.api.trained_on import TrainedOn
from tercet.errors import UserError, did_you_mean
from tercet.eval.formatting import heading, interval, shown
from tercet.eval.result import Json, Result, to_json
from tercet.eval.table import plain_text, render, tabulate
from tercet.page.write import environment

FILTERS = {"shown": shown, "interval": interval, "heading": heading}


class Results(Sequence[Result]):
    """Results in order, or by name: `results["image→text R@1"]`."""

    def __init__(
        self, results: Sequence[Result], model: str = "", trained_on: Mapping[str, TrainedOn] | None = None
    ) -> None:
        """`trained_on`: by dataset, how many of its samples the model was trained on, where that is known."""
        self.results, self.model, self.trained_on = tuple(results), model, dict(trained_on or {})

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
        return Results(self.results[at], self.model, self.trained_on) if isinstance(at, slice) else self.results[at]

    def to_json(self) -> list[Json]:
        known = {dataset: {"trained_on": one.to_json()} for dataset, one in self.trained_on.items()}
        return [{**one, **known.get(str(one["dataset"]), {})} for one in to_json(self.results, self.model)]

    @property
    def warnings(self) -> list[str]:
        return [warning for one in self.trained_on.values() for warning in one.warnings]

    def drawn(self) -> Group:
        """For a rich console."""
        return Group(render(self.results), *(Text(f"warning: {words}", style="bold red") for words in self.warnings))

    def __repr__(self) -> str:
        return plain_text(self.drawn())

    def _repr_html_(self) -> str:
        page = environment("tercet.api", FILTERS).get_template("tables.html")
        return page.render(tables=tabulate(self.results), warnings=self.warnings)
