"""Null models, which have learned nothing: tables of vectors that take the place of a model's own in the self-test.

Shape letters: n rows of a modality, D dimensions.
"""

import zlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.eval.embedding.embed import EmbeddingTable, TextEmbedder

DIM = 64
ROWS = 4096  # random vectors that those of texts are made of
OTHER = 1 << 20  # added to the seed of other data

Draw = Callable[[EmbeddingTable, int], EmbeddingTable]


def drawn(draw: Draw, table: EmbeddingTable, seed: int = 0) -> EmbeddingTable:
    """A null model's table. Nothing is embedded again: other data are the same items, with vectors of another seed."""

    def again(source: str | None, towers: bool) -> EmbeddingTable:
        return draw(table, seed if source is None else seed + OTHER)

    return replace(draw(table, seed), again=again)


def own(table: EmbeddingTable, seed: int) -> EmbeddingTable:
    """The model's own vectors."""
    return table


def width(table: EmbeddingTable) -> int:
    return next(iter(table.vectors.values())).shape[1]


def constant(table: EmbeddingTable, seed: int) -> EmbeddingTable:
    """Every item has the same vector."""
    return replace(table, vectors={name: one_axis(len(rows)).double() for name, rows in table.vectors.items()})


def one_axis(count: int) -> Tensor:
    """So many times the first axis, whose products and sums are exact."""
    return torch.eye(1, DIM).expand(count, -1)


def constant_text(texts: list[str]) -> Tensor:
    return one_axis(len(texts))


def random_vectors(table: EmbeddingTable, seed: int) -> EmbeddingTable:
    """Every row has a random direction."""
    generator = torch.Generator().manual_seed(seed)
    vectors = {
        name: F.normalize(torch.randn(len(rows), DIM, generator=generator, dtype=torch.float64), dim=1)
        for name, rows in table.vectors.items()
    }
    return replace(table, vectors=vectors)


def random_text(dim: int, seed: int) -> TextEmbedder:
    """Every text has a random direction of its own: the sum of two random rows, chosen by its hash."""
    rows = torch.randn(ROWS, dim, generator=torch.Generator().manual_seed(seed))

    def embed(texts: list[str]) -> Tensor:
        hashes = torch.tensor([zlib.crc32(text.encode()) for text in texts])
        return F.normalize(rows[hashes % ROWS] + rows[hashes // ROWS % ROWS], dim=1)

    return embed


def shuffled(table: EmbeddingTable, seed: int) -> EmbeddingTable:
    """The model's own vectors, shuffled among the rows of their modality."""
    generator = torch.Generator().manual_seed(seed)
    vectors = {name: rows[torch.randperm(len(rows), generator=generator)] for name, rows in table.vectors.items()}
    return replace(table, vectors=vectors)


def reordered(table: EmbeddingTable, seed: int) -> EmbeddingTable:
    """The same table with its items in another order. The rows of one item keep their order."""
    order = torch.randperm(len(table.samples), generator=torch.Generator().manual_seed(seed))
    place = order.argsort()
    vectors, items = {}, {}
    for name, rows in table.vectors.items():
        moved, by_place = place[table.items[name]].sort(stable=True)
        vectors[name], items[name] = rows[by_place], moved
    samples = tuple(table.samples[item] for item in order.tolist())
    return replace(table, vectors=vectors, items=items, samples=samples)


def subset(table: EmbeddingTable, most: int) -> EmbeddingTable:
    """At most so many items, spread evenly over the table, in double precision."""
    kept = torch.linspace(0, len(table.samples) - 1, min(most, len(table.samples))).round().long()
    vectors, items = {}, {}
    for name, rows in table.vectors.items():
        here = torch.isin(table.items[name], kept)
        if here.any():
            vectors[name] = F.normalize(rows[here].double(), dim=1)
            items[name] = torch.searchsorted(kept, table.items[name][here])
    samples = tuple(table.samples[item] for item in kept.tolist())
    return replace(table, vectors=vectors, items=items, samples=samples)
