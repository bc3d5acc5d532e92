"""Null models, which have learned nothing: tables of vectors that take the place of a model's own in the self-test.

Shape letters: n rows of a modality, D dimensions.
"""

import zlib
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.eval.embed import EmbeddingTable, TextEmbedder

DIM = 64
ROWS = 4096  # random vectors that those of texts are made of


def constant(table: EmbeddingTable) -> EmbeddingTable:
    """Every item has the same vector."""
    one = torch.ones(1, DIM, dtype=torch.float64) / DIM**0.5
    return replace(table, vectors={name: one.expand(len(rows), -1) for name, rows in table.vectors.items()})


def constant_text(texts: list[str]) -> Tensor:
    return torch.ones(len(texts), DIM)


def opposed(table: EmbeddingTable) -> EmbeddingTable:
    """Every right answer is further away than every wrong one.

    A vector is the direction of its group times a corner of the simplex for its modality. The inner product of two
    modalities is -1 / (modalities - 1) within a group, and zero between groups.
    """
    group = torch.unique(table.groups, return_inverse=True)[1]
    own = torch.eye(int(group.max()) + 1, dtype=torch.float64)
    count = len(table.vectors)
    corners = F.normalize(torch.eye(count, dtype=torch.float64) - 1 / count, dim=1)
    return replace(
        table,
        vectors={
            name: torch.einsum("ng,m->ngm", own[group[table.items[name]]], corner).flatten(1)
            for name, corner in zip(table.vectors, corners, strict=True)
        },
    )


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
