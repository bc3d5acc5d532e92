"""Scores that need a model, as groups of a score table: how similar the modalities of each sample are.

A model embeds the data once (`embed_data.py`). Scores are computed from the embeddings on disk, part by part, and
memory holds the vectors of one part.

Shape letters: n samples of a part that have both modalities, d dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.progress import with_progress
from tercet.errors import UserError
from tercet.eval.embedding.store import Store
from tercet.modality import MODALITIES


@dataclass(frozen=True)
class PairVectors:
    """The first vector of both modalities of the samples that have both, in the order of their ids."""

    id_n: list[int]
    group_n: Tensor
    one_nd: Tensor
    other_nd: Tensor


def facts_of(store: Store) -> dict[str, object]:
    """What the embeddings depend on beside the data."""
    return {name: store.facts.get(name) for name in ("weights", "transform", "dims")}


def pairs_of(store: Store) -> list[tuple[str, str]]:
    held = [modality for modality in MODALITIES if modality in store.modalities]
    if len(held) < 2:
        raise UserError(f"the model embeds only {', '.join(held)} of these data; a similarity needs two modalities")
    return list(combinations(held, 2))


def column_of(pair: tuple[str, str]) -> str:
    return "_".join(pair)


def score_similarity(task: ScoreTask, store: Store) -> ScoreGroup:
    """The cosine of each two modalities of a sample. Of several captions, the first counts. A collective."""
    pairs = pairs_of(store)
    columns = {
        column_of(pair): ScoreColumn("float32", f"cosine of {pair[0]} and {pair[1]}; of several captions, of the first")
        for pair in pairs
    }
    group = task.begin({"by": "similarity", **facts_of(store)}, columns)
    mine = task.mine(group)
    for ids in with_progress(mine, "scoring", len(mine)):
        found = []
        for pair in pairs:
            vectors = pair_vectors(store, ids, *pair)
            cosine_n = (vectors.one_nd * vectors.other_nd).sum(dim=1)
            found.append((vectors.id_n, {column_of(pair): cosine_n.numpy()}))
        task.write(group, ids, columns, found)
    return task.finish(group)


def pair_vectors(store: Store, ids: range, one: str, other: str) -> PairVectors:
    found = list(_pieces(store, ids, one, other))
    dim = store.facts["modalities"][one]["dim"]
    return PairVectors(
        [id for piece in found for id in piece.id_n],
        torch.cat([torch.empty(0, dtype=torch.int64), *(piece.group_n for piece in found)]),
        torch.cat([torch.empty(0, dim), *(piece.one_nd for piece in found)]),
        torch.cat([torch.empty(0, dim), *(piece.other_nd for piece in found)]),
    )


def _pieces(store: Store, ids: range, one: str, other: str) -> Iterator[PairVectors]:
    """The pairs of each piece of the store that has some of the ids."""
    size = store.facts["piece"]
    for piece in range(ids.start // size, -(-ids.stop // size)):
        samples = store.samples(piece)
        within = np.array([sample.id in ids for sample in samples], dtype=bool)
        (one_rd, item_r), (other_sd, item_s) = (store.rows(piece, modality) for modality in (one, other))
        own_n, at_r = np.unique(item_r.numpy(), return_index=True)
        others_n, at_s = np.unique(item_s.numpy(), return_index=True)
        both_n, in_one_n, in_other_n = np.intersect1d(own_n, others_n, assume_unique=True, return_indices=True)
        kept_n = within[both_n]
        chosen = [samples[item] for item in both_n[kept_n].tolist()]
        yield PairVectors(
            [sample.id for sample in chosen],
            torch.tensor([sample.group for sample in chosen], dtype=torch.int64),
            one_rd[torch.from_numpy(at_r[in_one_n][kept_n])],
            other_sd[torch.from_numpy(at_s[in_other_n][kept_n])],
        )
