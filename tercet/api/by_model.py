"""Results of several models as one table in a terminal or a notebook."""

from collections.abc import Iterator, Mapping

from rich.console import Group
from rich.text import Text

from tercet.api.results import FILTERS, Results
from tercet.eval.result import Json
from tercet.eval.tables.formats import csv_text, grid_markdown, result_lines
from tercet.eval.tables.grid import grid
from tercet.eval.tables.table import plain_text
from tercet.page.write import environment


class ResultsByModel(Mapping[str, Results]):
    """The results of each model on the same data, by the name of the model."""

    def __init__(self, by_model: Mapping[str, Results]) -> None:
        self.by_model = dict(by_model)

    def __getitem__(self, model: str) -> Results:
        return self.by_model[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_model)

    def __len__(self) -> int:
        return len(self.by_model)

    def to_json(self) -> list[Json]:
        """One object per model, dataset and task, in the format of CLIP_benchmark."""
        return [entry for results in self.by_model.values() for entry in results.to_json()]

    def to_csv(self) -> str:
        return csv_text(result_lines(self.by_model))

    def to_markdown(self) -> str:
        return grid_markdown(self.by_model)

    @property
    def warnings(self) -> list[str]:
        return [warning for results in self.by_model.values() for warning in results.warnings]

    def drawn(self) -> Group:
        """For a rich console."""
        return Group(grid(self.by_model), *(Text(f"warning: {words}", style="bold red") for words in self.warnings))

    def __repr__(self) -> str:
        return plain_text(self.drawn())

    def _repr_html_(self) -> str:
        page = environment("tercet.api", FILTERS).get_template("by_model.html")
        return page.render(grid=grid(self.by_model), warnings=self.warnings)
