"""Models compared with a baseline, as tables in a terminal or a notebook; each difference has its interval."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group
from rich.text import Text

from tercet.api.results import FILTERS
from tercet.api.trained_on import TrainedOn
from tercet.eval.compare import MARKDOWN, Difference, markdown_cells, render_differences, shown_p, signed
from tercet.eval.result import Json
from tercet.eval.tables.formats import csv_text, markdown_text
from tercet.eval.tables.table import plain_text
from tercet.page.write import environment


class Comparison(Mapping[str, list[Difference]]):
    """The differences of each other model from the baseline on the same items, by the name of the model."""

    def __init__(
        self,
        baseline: str,
        against: Mapping[str, list[Difference]],
        trained_on: Sequence[TrainedOn] = (),
        missing: Sequence[str] = (),
    ) -> None:
        """`trained_on`: how many samples of a dataset a model was trained on, where that is known. `missing` says what
        could not be evaluated."""
        self.baseline, self.against, self.trained_on = baseline, against, tuple(trained_on)
        self.missing = tuple(missing)

    def __getitem__(self, model: str) -> list[Difference]:
        return self.against[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self.against)

    def __len__(self) -> int:
        return len(self.against)

    def to_json(self) -> Json:
        against = {name: [one.to_json() for one in differences] for name, differences in self.against.items()}
        known: dict[str, Json] = {}
        for one in self.trained_on:
            known.setdefault(one.model, {})[one.dataset] = one.to_json()
        found: Json = {"baseline": self.baseline, "against": against, "trained_on": known}
        return {**found, "not_evaluated": list(self.missing)} if self.missing else found

    def to_csv(self) -> str:
        """A line for each difference."""
        return csv_text([{"model": name, **one.line()} for name, found in self.against.items() for one in found])

    def to_markdown(self) -> str:
        """A table with a row for each difference."""
        rows = [markdown_cells(name, one) for name, found in self.against.items() for one in found]
        return markdown_text(MARKDOWN, rows, left=4)

    @property
    def warnings(self) -> list[str]:
        return [*self.missing, *(warning for one in self.trained_on for warning in one.warnings)]

    def drawn(self) -> Group:
        """For a rich console."""
        rows = sum(map(len, self.against.values()))
        tables = (render_differences(name, self.baseline, found, rows) for name, found in self.against.items())
        return Group(*tables, *(Text(f"warning: {words}", style="bold red") for words in self.warnings))

    def __repr__(self) -> str:
        return plain_text(self.drawn())

    def _repr_html_(self) -> str:
        page = environment("tercet.api", {**FILTERS, "signed": signed, "shown_p": shown_p}).get_template(
            "comparison.html"
        )
        return page.render(baseline=self.baseline, against=self.against, warnings=self.warnings)
