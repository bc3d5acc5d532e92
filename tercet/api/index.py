"""`tercet.index`: a data set to be searched, by words, or by a picture or a sound like those wanted."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Drawing
from rich.text import Text

from tercet.api.data import Data, looked_at
from tercet.api.embed import embed
from tercet.api.model import Loadable, Model, load
from tercet.data_pipelines.open import open_split
from tercet.data_pipelines.source import Source
from tercet.errors import UserError
from tercet.eval.result import Json
from tercet.eval.search import search
from tercet.eval.store import Store
from tercet.modality import FILES


@dataclass(frozen=True)
class Hit:
    """A sample that was found: its cosine to the query, where it lies, and its first caption, if it has any."""

    score: float
    path: str
    key: str
    caption: str

    def to_json(self) -> Json:
        return asdict(self)


class Index:
    """The embeddings of a data set beside the model that made them."""

    def __init__(self, model: Model, store: Store, source: Source) -> None:
        self.model, self.store, self.source = model, store, source

    def __len__(self) -> int:
        return int(self.store.facts["embedded"])

    def search(self, query: str | os.PathLike[str], k: int = 5, among: str | None = None) -> list[Hit]:
        """The k nearest of one modality, by default pictures, or else sounds, or else captions.

        A query that is the path of a picture or a sound is that; anything else is words.
        """
        if k < 1:
            raise UserError(f"k is {k}, the number of samples to find; give 1 or more")
        words = os.fspath(query)
        things: dict[str, Any] = {modality_of(words): [words]}
        (vector,) = self.model.embed(**things).vectors.values()
        held = [modality for modality in FILES if modality in self.store.modalities]
        nearest = among or next((modality for modality in held if modality != "text"), "text")
        return [
            Hit(match.score, self.source.path(match.sample.id), match.sample.key, next(iter(match.sample.text), ""))
            for match in search(self.store, vector[0], k, nearest)
        ]

    def __repr__(self) -> str:
        return f"Index({len(self):,} samples: {', '.join(self.store.modalities)}; {self.model.name})"


def index(model: Loadable, data: Data) -> Index:
    """Embeds the data, or finds their embeddings in the cache."""
    found = load(model)
    given = looked_at(found.name, data)
    store = embed(found, given)
    return Index(found, store, open_split(given, next(iter(given.val.values()))))


def modality_of(query: str) -> str:
    """What a query is. One word that ends as a file does is a path, and not words if there is no such file."""
    extension = Path(query).suffix[1:].lower()
    named = (modality for modality, extensions in FILES.items() if modality != "text" and extension in extensions)
    modality = next(named, "text")
    if os.path.isfile(query):  # not pathlib's, which refuses words longer than a name may be
        return modality
    if modality != "text" and not any(map(str.isspace, query)):
        raise UserError(f"there is no file {query}; a query is words, or the path of a picture or a sound")
    return "text"


def render_hits(query: str, hits: list[Hit]) -> Drawing:
    """For a rich console."""
    drawn = Drawing(title=Text(query, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("cosine", justify="right", no_wrap=True)
    drawn.add_column("where", overflow="fold")
    drawn.add_column("caption", overflow="fold")
    for hit in hits:
        drawn.add_row(Text(f"{hit.score:.3f}"), Text(hit.path), Text(hit.caption, style="dim"))
    return drawn
