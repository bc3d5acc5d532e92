"""Numbers that show themselves: as tables in a terminal and in a notebook, each with its interval and chance."""

from collections.abc import Iterator, Sequence
from typing import overload

from tercet.errors import UserError, did_you_mean
from tercet.eval.formatting import heading, interval, shown
from tercet.eval.result import Json, Result, to_json
from tercet.eval.table import table_text, tabulate
from tercet.page.write import environment

FILTERS = {"shown": shown, "interval": interval, "heading": heading}


class Table(Sequence[Result]):
    """Results in their order, or by name as `table["image→text R@1"]`."""

    def __init__(self, results: Sequence[Result], model: str = "") -> None:
        self.results, self.model = tuple(results), model

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    @overload
    def __getitem__(self, at: int | str) -> Result: ...

    @overload
    def __getitem__(self, at: slice) -> "Table": ...

    def __getitem__(self, at: int | str | slice) -> "Result | Table":
        if isinstance(at, str):
            known = {result.name: result for result in reversed(self.results)}
            if at not in known:
                raise UserError(f"there is no number `{at}`; {did_you_mean(at, known)}")
            return known[at]
        return Table(self.results[at], self.model) if isinstance(at, slice) else self.results[at]

    def to_json(self) -> list[Json]:
        return to_json(self.results, self.model)

    def __repr__(self) -> str:
        return table_text(self.results)

    def _repr_html_(self) -> str:
        page = environment("tercet.api", FILTERS).get_template("tables.html")
        return page.render(tables=tabulate(self.results))
