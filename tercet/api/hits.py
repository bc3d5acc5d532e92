"""The results of a search, as a table in a terminal or a notebook."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import overload

from rich.box import SIMPLE_HEAD
from rich.table import Table as Drawing
from rich.text import Text

from tercet.eval.result import Json
from tercet.eval.tables.table import plain_text
from tercet.page.write import environment


@dataclass(frozen=True)
class Hit:
    """A sample that was found: its cosine to the query, its path, and its first caption, if it has one."""

    score: float
    path: str
    key: str
    caption: str

    def to_json(self) -> Json:
        return asdict(self)


class Hits(Sequence[Hit]):
    """Hits, the nearest first. `query` is empty unless the query was words."""

    def __init__(self, hits: Sequence[Hit], query: str = "") -> None:
        self.hits, self.query = tuple(hits), query

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, at: int) -> Hit: ...

    @overload
    def __getitem__(self, at: slice) -> "Hits": ...

    def __getitem__(self, at: int | slice) -> "Hit | Hits":
        return Hits(self.hits[at], self.query) if isinstance(at, slice) else self.hits[at]

    def to_json(self) -> list[Json]:
        return [hit.to_json() for hit in self.hits]

    def __repr__(self) -> str:
        return plain_text(render_hits(self))

    def _repr_html_(self) -> str:
        return environment("tercet.api", {}).get_template("hits.html").render(hits=self.hits, query=self.query)


def render_hits(hits: Hits) -> Drawing:
    """The table for a rich console."""
    title = Text(hits.query, style="bold") if hits.query else None
    drawn = Drawing(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("cosine", justify="right", no_wrap=True)
    drawn.add_column("where", overflow="fold")
    drawn.add_column("caption", overflow="fold")
    for hit in hits:
        drawn.add_row(Text(f"{hit.score:.3f}"), Text(hit.path), Text(hit.caption, style="dim"))
    return drawn
