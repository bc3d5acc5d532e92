"""Models against a baseline, which shows itself: in a terminal and in a notebook, each difference with its interval."""

from collections.abc import Iterator, Mapping

from rich.console import Group

from tercet.api.table import FILTERS
from tercet.eval.compare import Difference, render_contrasts, signed
from tercet.eval.result import Json
from tercet.eval.table import plain_text
from tercet.page.write import environment


class Comparison(Mapping[str, list[Difference]]):
    """Each of the other models by name, as it stands against the baseline on the same items."""

    def __init__(self, baseline: str, against: Mapping[str, list[Difference]]) -> None:
        self.baseline, self.against = baseline, against

    def __getitem__(self, model: str) -> list[Difference]:
        return self.against[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self.against)

    def __len__(self) -> int:
        return len(self.against)

    def to_json(self) -> Json:
        against = {name: [contrast.to_json() for contrast in contrasts] for name, contrasts in self.against.items()}
        return {"baseline": self.baseline, "against": against}

    def drawn(self) -> Group:
        """For a rich console."""
        return Group(*(render_contrasts(name, self.baseline, contrasts) for name, contrasts in self.against.items()))

    def __repr__(self) -> str:
        return plain_text(self.drawn())

    def _repr_html_(self) -> str:
        page = environment("tercet.api", {**FILTERS, "signed": signed}).get_template("comparison.html")
        return page.render(baseline=self.baseline, against=self.against)
