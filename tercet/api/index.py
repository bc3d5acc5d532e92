"""`tercet.index`: search in a data set by words, a picture or a sound."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tercet.api.data import Data, looked_at
from tercet.api.embed import embed
from tercet.api.hits import Hit, Hits
from tercet.api.model import Loadable, Model, load
from tercet.api.query import modality_of
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.open import open_split
from tercet.errors import UserError
from tercet.eval.embedding.search import Match, search
from tercet.eval.embedding.store import Store
from tercet.modality import FILES


class Index:
    """The embeddings of a data set, and the model that made them."""

    def __init__(self, model: Model, store: Store, source: Source) -> None:
        self.model, self.store, self.source = model, store, source

    def __len__(self) -> int:
        return int(self.store.facts["embedded"])

    def search(self, query: Any = None, k: int = 5, among: str | None = None, **named: Any) -> Hits:
        """The k nearest samples by one modality: by default pictures, else sounds, else captions.

        A query is words, the path of a picture or a sound, a picture or a sound. To name its modality, pass it as
        `Model.embed` takes it, such as `image=…`.
        """
        if k < 1:
            raise UserError(f"k is {k}, the number of samples to find; give 1 or more")
        vector = self._vector(named if query is None else {modality_of(query): query, **named})
        held = [modality for modality in FILES if modality in self.store.modalities]
        nearest = among or next((modality for modality in held if modality != "text"), "text")
        hits = [self._hit(match, nearest) for match in search(self.store, vector, k, nearest)]
        return Hits(hits, query if isinstance(query, str) else "")

    def _vector(self, things: Mapping[str, Any]) -> Tensor:
        rows: list[Tensor] = [row for vectors in self.model.embed(**things).vectors.values() for row in vectors]
        if len(rows) != 1:
            raise UserError(f"a search takes one query, and not {len(rows)}")
        return rows[0]

    def _hit(self, match: Match, modality: str) -> Hit:
        sample = match.sample
        return Hit(match.score, self.source.path(sample.id, modality), sample.key, next(iter(sample.text), ""))

    def __repr__(self) -> str:
        return f"Index({len(self):,} samples: {', '.join(self.store.modalities)}; {self.model.label})"


def index(model: Loadable, data: Data, dims: int | None = None) -> Index:
    """Embeds the data, or reads their embeddings from the cache. `dims` cuts all vectors to their first dimensions."""
    found = load(model, dims=dims)
    given = looked_at(found.name, data)
    store = embed(found, given)
    return Index(found, store, open_split(given, next(iter(given.val.values()))))
