"""A store of known vectors, and the score tables that are computed from it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zlib import crc32

import numpy as np
import torch
from torch.nn.functional import normalize

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.curate import score_group
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.sources.open import open_split
from tercet.distributed import World
from tercet.eval.embedding import embed_data as module
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.embedding.store import Store, StoredPart
from tests.eval.stored import tiny

DIM, DIFFERENT = 6, 40  # samples from the 40th on repeat the first ones
PART, PIECE = 24, 16
embed_piece = module.embed_piece
Score = Callable[[ScoreTask, Store], ScoreGroup]


def vector(seed: int, modality: str, id: int) -> torch.Tensor:
    """A unit vector; that of a caption is near that of the picture for most samples."""
    content = id % DIFFERENT
    own = np.random.default_rng([seed, crc32(modality.encode()), content]).normal(size=DIM)
    shared = np.random.default_rng([seed, content]).normal(size=DIM)
    return normalize(torch.tensor(own + (2 if content % 5 else 0) * shared, dtype=torch.float32), dim=0)


def known(seed: int, *arguments: Any) -> StoredPart:
    part = embed_piece(*arguments)
    table = part.table
    vectors = {
        name: torch.stack([vector(seed, name, table.samples[item].id) for item in items.tolist()])
        for name, items in table.items.items()
    }
    return replace(part, table=EmbeddingTable(vectors, table.items, table.samples))


def embedded(shards: Path, folder: Path, world: World, seed: int = 0, **options: Any) -> tuple[Store, DataConfig]:
    """A store of the known vectors."""
    given = DataConfig.model_validate({"train": str(shards), "val": str(shards), "workers": 0, "max_bad": 1.0})
    with ExitStack() as stack:
        for name, value in (("BATCH", 8), ("PIECE", PIECE), ("embed_piece", lambda *rest: known(seed, *rest))):
            stack.enter_context(patch.object(module, name, value))
        return module.embed_data(tiny(seed), given, given.val["val"], world, folder, **options), given


def scored(score: Score, shards: Path, folder: Path, world: World | None = None, group: str = "mine") -> ScoreGroup:
    world = world or World()
    store, given = embedded(shards, folder / "store", world)
    with patch.object(score_group, "PART", PART):
        source = open_split(given, given.val["val"])
        table = ScoreTable.begin(folder / "scores", TableSource.of(source, str(shards)))
        return score(ScoreTask(table, "data", group, source, world), store)


def on_rank(world: World, score: Score, shards: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    scored(score, shards, folder, world)


def rows(group: ScoreGroup) -> list[dict[str, Any]]:
    return [row for batch in group.batches("data") for row in batch.to_pylist()]
