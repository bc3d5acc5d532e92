"""Embeds a dataset once for all tasks: each rank embeds its own batches, and every rank gets the whole table.

Shape letters: n rows of a modality, d dimensions of the joint space.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.batches.batch_maker import without_media
from tercet.data_pipelines.sample import Batch, Sample
from tercet.distributed import World
from tercet.errors import UserError
from tercet.modality import MODALITIES

T = TypeVar("T")


class EvalError(UserError):
    """An evaluation that is not possible: an embedding is not finite, or the data do not have what a task needs."""


class Embedder(Protocol):
    """The interface of a model. Its rows are aligned with those of the batch's fields."""

    def embed(self, batch: Batch) -> dict[str, Tensor]: ...


class Gathers(Protocol):
    """Returns the objects of all ranks, in the order of the ranks, on every rank."""

    def gather_objects(self, item: T, /) -> list[T]: ...


@dataclass(frozen=True, repr=False)
class EmbeddingTable:
    """The embeddings of a dataset: by modality, unit vectors `[n, d]` and the item of each (ascending).

    `samples` are the items, ordered by id, without their pictures and sounds. `world`: the ranks that all hold this
    table and share the work on it; what works on such a table may be a collective. `again` embeds with the same model.
    `scales`: by modality, the inverse temperature that the model learned for its vectors and those of text.
    """

    vectors: dict[str, Tensor]
    items: dict[str, Tensor]
    samples: tuple[Sample, ...]
    world: World = field(default_factory=World)
    again: "Again | None" = None
    scales: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for modality, rows in self.vectors.items():
            broken = (~torch.isfinite(rows)).any(dim=1).nonzero().flatten()
            if len(broken):
                key = self.samples[int(self.items[modality][broken[0]])].key
                share = f"{len(broken)} of {len(rows)}"
                raise EvalError(
                    f"the {modality} embedding of sample `{key}` is not finite, nor are {share}; check the weights"
                )

    def __repr__(self) -> str:
        rows = ", ".join(f"{modality} {list(self.vectors[modality].shape)}" for modality in self.modalities)
        return f"EmbeddingTable({len(self.samples):,} samples: {rows})"

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(modality for modality in MODALITIES if modality in self.vectors)

    @property
    def groups(self) -> Tensor:
        return torch.tensor([sample.group for sample in self.samples], dtype=torch.long)

    def first_rows(self, modality: str) -> dict[int, int]:
        """The first row of each item in this modality."""
        return {item: row for row, item in reversed(list(enumerate(self.items[modality].tolist())))}


class Again(Protocol):
    """Embeds other data, or with None the same, with the model that made a table. A collective. `towers`: what the
    towers return, in place of the vectors of the joint space."""

    def __call__(self, source: str | None, towers: bool) -> EmbeddingTable: ...


@dataclass(frozen=True)
class EmbeddedBatch:
    """The vectors of one batch, with the sample ids of the rows."""

    samples: tuple[Sample, ...]
    vectors: dict[str, Tensor]
    ids: dict[str, Tensor]


@torch.no_grad()
def embed(model: Embedder, batches: Iterable[Batch], world: Gathers) -> EmbeddingTable:
    """Each rank embeds its own batches, of which ranks may have unequal numbers. All ranks get the whole table."""
    mine = [embed_batch(model, batch) for batch in batches]
    parts = [part for share in world.gather_objects(mine) for part in share]
    if not parts:
        raise EvalError("no sample of the data has a modality that the model encodes; evaluate on other data")
    return join(parts)


def embed_prompts(model_embed_text: "TextEmbedder", texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Unit vectors of texts, computed in batches."""
    with torch.no_grad():
        chunks = [model_embed_text(list(texts[at : at + batch_size])) for at in range(0, len(texts), batch_size)]
    vectors = F.normalize(torch.cat(chunks).float().cpu(), dim=1)
    broken = (~torch.isfinite(vectors)).any(dim=1).nonzero().flatten()
    if len(broken):
        raise EvalError(f"the text embedding of `{texts[int(broken[0])]}` is not finite")
    return vectors


class TextEmbedder(Protocol):
    """`model.embed_text`."""

    def __call__(self, texts: list[str], /) -> Tensor: ...


def embed_batch(model: Embedder, batch: Batch) -> EmbeddedBatch:
    vectors = {name: rows.float().cpu() for name, rows in model.embed(batch).items() if name in MODALITIES}
    ids = {name: batch.ids[batch.fields[name].item].cpu() for name in vectors}
    return EmbeddedBatch(
        without_media(batch.samples), {name: F.normalize(rows, dim=1) for name, rows in vectors.items()}, ids
    )


def join(parts: list[EmbeddedBatch]) -> EmbeddingTable:
    samples = sorted((sample for part in parts for sample in part.samples), key=lambda sample: sample.id)
    for before, after in pairwise(samples):
        if before.id == after.id:
            raise EvalError(f"sample `{after.key}` was embedded twice; each item must be in one batch of one rank")
    known = torch.tensor([sample.id for sample in samples])
    vectors, items = {}, {}
    for modality in [m for m in MODALITIES if any(len(part.ids.get(m, ())) for part in parts)]:
        present = [part for part in parts if modality in part.ids]
        item = torch.searchsorted(known, torch.cat([part.ids[modality] for part in present]))
        order = item.argsort(stable=True)
        vectors[modality], items[modality] = torch.cat([part.vectors[modality] for part in present])[order], item[order]
    return EmbeddingTable(vectors, items, tuple(samples))
