"""Samples that mean the same: SemDeDup (Abbas et al. 2023), as a group of a score table.

K-means of the embeddings divides the data. Within each cluster, samples are ordered by their cosine with the centroid,
the lowest first, and a sample is a duplicate if its cosine with an earlier one is above 1 - eps: the one that is
farthest from the centroid stays. As in the paper, also earlier ones that were dropped themselves count.

`nearest` is the largest cosine with an earlier sample, so `nearest <= 1 - eps` gives the decision for any other eps
without computing anything again; the first sample of a cluster has none. Pairs in different clusters are not compared.

Each rank compares the samples of every W-th cluster, some clusters at a time, in tiles.

Shape letters: n samples of this rank, N samples of the source, d dimensions, K clusters, m samples of one cluster.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.progress import with_progress
from tercet.eval.embedding.store import Store
from tercet.eval.score import facts_of
from tercet.training.prototypes.cluster_data import NONE, features, modality_of_features, piece_features
from tercet.training.prototypes.kmeans import KMeans, kmeans

PER_CLUSTER = 1000  # samples, on average, without a number of clusters
HELD = 2**17  # vectors that are in memory at a time
TILE = 1024  # rows of a tile of cosines
ABSENT = -2.0  # less than any cosine

COLUMNS = {
    "cluster": ScoreColumn("int32", "number of the cluster that K-means found"),
    "nearest": ScoreColumn(
        "float32",
        "largest cosine with a sample of the cluster that is farther from the centroid; null for the farthest",
    ),
    "nearest_id": ScoreColumn("int64", "id of that sample"),
    "first": ScoreColumn("bool", "nearest is not above 1 - eps: the sample to keep"),
}


@dataclass(frozen=True)
class SemDeDup:
    """The options."""

    eps: float = 0.05
    clusters: int | None = None
    among: str | None = None
    seed: int = 0


def score_semantic_duplicates(task: ScoreTask, store: Store, options: SemDeDup) -> ScoreGroup:
    """A collective."""
    modality = modality_of_features(options.among, store)
    rows = store.facts["modalities"][modality]["rows"]
    count = options.clusters or max(1, round(rows / PER_CLUSTER))
    chosen = {"eps": options.eps, "clusters": count, "among": modality, "seed": options.seed}
    group = task.begin({"by": "semantic_duplicates", **facts_of(store), **chosen}, COLUMNS)
    if not task.missing(group):
        return task.finish(group)
    label_N, closeness_N = _clustered(
        task, store, modality, KMeans(count, start="random", spherical=True, seed=options.seed)
    )
    nearest_N, id_N = _nearest(task, store, modality, label_N, closeness_N, count)
    for ids in task.mine(group):
        part = slice(ids.start, ids.stop)
        id_n = torch.arange(ids.start, ids.stop)[label_N[part] != NONE]
        nearest_n = nearest_N[id_n]
        none = (nearest_n == ABSENT).tolist()
        values = {
            "cluster": label_N[id_n].tolist(),
            "nearest": _absent(nearest_n, none),
            "nearest_id": _absent(id_N[id_n], none),
            "first": (nearest_n <= 1 - options.eps).tolist(),
        }
        task.write(group, ids, COLUMNS, [(id_n.tolist(), values)])
    return task.finish(group)


def _absent(value_n: Tensor, none: Sequence[bool]) -> list[object]:
    return [None if without else value for value, without in zip(value_n.tolist(), none, strict=True)]


def _clustered(task: ScoreTask, store: Store, modality: str, options: KMeans) -> tuple[Tensor, Tensor]:
    """The cluster of each sample, and its cosine with the centroid, on all ranks."""
    world, samples = task.world, len(task.source)
    id_n, feature_nd = (rows.to(world.device) for rows in features(store, modality, world))
    found = kmeans(feature_nd, id_n, options, world)
    label_N = torch.zeros(samples, dtype=torch.int64, device=world.device)
    closeness_N = torch.zeros(samples, device=world.device)
    label_N[id_n] = found.label_n + 1
    closeness_N[id_n] = (feature_nd * normalize(found.centroid_Kd, dim=1)[found.label_n]).sum(dim=1)
    return (world.sum(label_N) - 1).cpu(), world.sum(closeness_N).cpu()


def _nearest(
    task: ScoreTask, store: Store, modality: str, label_N: Tensor, closeness_N: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The largest cosine of each sample with an earlier one of its cluster, and the id of that one, on all ranks."""
    world = task.world
    nearest_N = torch.zeros(len(label_N), dtype=torch.float64)
    other_N = torch.zeros(len(label_N), dtype=torch.int64)
    size_K = torch.bincount(label_N[label_N != NONE], minlength=count)
    batches = list(_batches(list(range(world.rank, count, world.size)), size_K.tolist()))
    for clusters in with_progress(batches, "comparing", len(batches)):
        id_n, feature_nd = _members(store, modality, label_N, clusters)
        for cluster in clusters:
            own_n = torch.nonzero(label_N[id_n] == cluster)[:, 0]
            order_m = own_n[torch.argsort(closeness_N[id_n[own_n]], stable=True)]
            nearest_m, at_m = nearest_before(feature_nd[order_m].to(world.device))
            id_m = id_n[order_m]
            nearest_N[id_m] = nearest_m.cpu().double()
            other_N[id_m] = id_m[at_m.cpu()]
    return world.sum(nearest_N.to(world.device)).float().cpu(), world.sum(other_N.to(world.device)).cpu()


def nearest_before(feature_md: Tensor) -> tuple[Tensor, Tensor]:
    """The largest cosine of each row with one before it, and which row that is. The first row has none."""
    nearest_m = torch.full((len(feature_md),), ABSENT, device=feature_md.device)
    at_m = torch.zeros(len(feature_md), dtype=torch.int64, device=feature_md.device)
    for start in range(0, len(feature_md), TILE):
        rows = torch.arange(start, min(start + TILE, len(feature_md)), device=feature_md.device)
        for first in range(0, start + 1, TILE):
            columns = torch.arange(first, min(first + TILE, len(feature_md)), device=feature_md.device)
            cosine_rc = (feature_md[rows] @ feature_md[columns].T).masked_fill(columns >= rows[:, None], ABSENT)
            best_r, column_r = cosine_rc.max(dim=1)
            better_r = best_r > nearest_m[rows]
            at_m[rows] = torch.where(better_r, columns[column_r], at_m[rows])
            nearest_m[rows] = torch.maximum(best_r, nearest_m[rows])
    return nearest_m, at_m


def _batches(clusters: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Clusters whose vectors are in memory together."""
    batch: list[int] = []
    for cluster in clusters:
        if batch and sum(sizes[one] for one in batch) + sizes[cluster] > HELD:
            yield batch
            batch = []
        batch.append(cluster)
    if batch:
        yield batch


def _members(store: Store, modality: str, label_N: Tensor, clusters: list[int]) -> tuple[Tensor, Tensor]:
    """The ids and unit vectors of all samples in some clusters, in the order of their ids."""
    wanted = torch.tensor(clusters)
    ids, vectors = [], []
    for piece in range(store.pieces_count):
        id_n, feature_nd = piece_features(store, modality, piece)
        kept_n = torch.isin(label_N[id_n], wanted)
        ids.append(id_n[kept_n])
        vectors.append(feature_nd[kept_n])
    return torch.cat(ids), torch.cat(vectors)
