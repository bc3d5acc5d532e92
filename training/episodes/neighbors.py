"""The neighbour graphs of an episode: for each sample that it drew, the samples that are most like it now.

Every rank searches for its own samples among those of all ranks, which take turns: no rank holds all vectors.

Shape letters: n samples of this rank, k neighbours of each.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.composition import EPISODE, NeighborsConfig
from tercet.data_pipelines.config import SourceConfig
from tercet.distributed import World
from tercet.training.memory.episode import Embedded, Episode, SampleValues
from tercet.training.mining.nearest import Nearest, Piece

KEPT = 32  # neighbours of a sample, unless the recipe says how many to consider
CHUNK = 8192  # vectors that each rank contributes at a time


def neighbor_graphs(
    episode: Episode, train: Mapping[str, SourceConfig], sources: Sequence[SourceIds]
) -> dict[str, SampleValues]:
    """The graphs that the recipe wants, by the name of the source. A collective."""
    return {
        name: _graph(episode, config.neighbors, source.ids)
        for (name, config), source in zip(train.items(), sources, strict=True)
        if config.neighbors and config.neighbors.graph == EPISODE
    }


def _graph(episode: Episode, config: NeighborsConfig, ids: range) -> SampleValues:
    compare = config.compare or (next(iter(episode.vectors)),)
    own, other = (_within(episode.vectors[name], ids) for name in (compare[0], compare[-1]))
    width = config.range_max or max(KEPT, config.range_min + config.num_negatives)
    nearest = Nearest(_piece(own), width, episode.world.device)
    for candidates in _pieces(other, episode.world):
        nearest.add(candidates)
    found = nearest.found()
    values = {"neighbors": torch.from_numpy(found.id_qk), "scores": torch.from_numpy(found.score_qk)}
    if len(compare) == 2:
        values["positive"] = _own_scores(own, other)
    return SampleValues(own.id_n + ids.start, values)


def _within(vectors: Embedded, ids: range) -> Embedded:
    """The vectors of one source, with the ids within it."""
    among_n = (vectors.id_n >= ids.start) & (vectors.id_n < ids.stop)
    return Embedded(vectors.id_n[among_n] - ids.start, vectors.z_nd[among_n])


def _piece(vectors: Embedded) -> Piece:
    return Piece(vectors.id_n.numpy(), vectors.z_nd, torch.arange(len(vectors.id_n)), {})


def _pieces(vectors: Embedded, world: World) -> Iterator[Piece]:
    """The vectors of all ranks, some of each rank at a time."""
    longest = world.max(len(vectors.id_n))
    for start in range(0, longest, CHUNK):
        rows = min(CHUNK, longest - start)
        id_r = torch.full((rows,), -1)
        z_rd = vectors.z_nd.new_zeros(rows, vectors.z_nd.shape[1])
        here = slice(start, start + rows)
        count = len(vectors.id_n[here])
        id_r[:count], z_rd[:count] = vectors.id_n[here], vectors.z_nd[here]
        id_N, z_Nd = world.gather(id_r.to(world.device)).cpu(), world.gather(z_rd.to(world.device)).cpu()
        yield _piece(Embedded(id_N[id_N >= 0], z_Nd[id_N >= 0]))


def _own_scores(own: Embedded, other: Embedded) -> Tensor:
    """The cosine of each sample's own pair; NaN if it lacks the other modality."""
    score_n = torch.full((len(own.id_n),), torch.nan)
    if len(other.id_n):
        at_n = torch.searchsorted(other.id_n, own.id_n).clamp(max=len(other.id_n) - 1)
        both_n = other.id_n[at_n] == own.id_n
        score_n[both_n] = (own.z_nd[both_n] * other.z_nd[at_n[both_n]]).sum(dim=1)
    return score_n
