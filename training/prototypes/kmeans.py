"""K-means over features that are shared among ranks (Lloyd 1982).

Each rank passes its own rows, any number of them, and the id of each, which no other row has. All ranks get the same
centroids, and each the labels of its own rows. Random draws depend on the seed and the ids alone, and sums over rows
are taken in fp64, so the result is that of one process, up to rounding.

    start       `k-means++` (Arthur & Vassilvitskii 2007): each centroid is a row, drawn with a probability proportional
                to its squared distance from those before it; K draws, which cost as much as one more iteration.
                `random`: K different rows, as faiss and ProtoCLIP begin
    spherical   rows and centroids have length 1, so rows are compared by their cosines
    restarts    how often to begin anew; the result with the lowest sum of squared distances is kept

A centroid that gets no row is put near that of one of the largest clusters, and both are moved apart by little, so that
the next iteration divides that cluster, as faiss does. faiss draws the cluster at random; here the largest is divided
first. A cluster that is empty at the end has the count 0, and no term compares with it.

Distances are computed in tiles, so memory is linear in the rows.

Shapes: n rows of this rank, d dimensions, K clusters.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.seeding import uniforms
from tercet.distributed import World
from tercet.errors import UserError
from tercet.training.prototypes.centroids import means

ENTRIES = 2**22  # distances that are in memory at a time
APART = 2.0**-10  # how far the halves of a divided cluster begin from its centroid, in its own radii
LEAST = 1e-30  # the squared distance of a row that is a centroid already

Start = Literal["k-means++", "random"]


@dataclass(frozen=True)
class KMeans:
    """Options of K-means."""

    clusters: int
    iterations: int = 20
    restarts: int = 1
    start: Start = "k-means++"
    spherical: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Clusters:
    """The centroids and counts of all clusters, the cluster of each own row, and the sum of squared distances."""

    centroid_Kd: Tensor
    count_K: Tensor
    label_n: Tensor
    inertia: float


def kmeans(feature_nd: Tensor, id_n: Tensor, options: KMeans, world: World) -> Clusters:
    """Groups the rows of all ranks. A collective."""
    rows = int(world.sum(torch.tensor(len(feature_nd), device=world.device)))
    if not 0 < options.clusters <= rows:
        raise UserError(f"{options.clusters:,} clusters of {rows:,} samples: give a number from 1 to {rows:,}")
    if not world.all(bool(torch.isfinite(feature_nd).all())):
        raise UserError("some features are inf or NaN; check that the run has not diverged")
    if options.spherical:
        feature_nd = normalize(feature_nd, dim=1)
    found = [
        _lloyd(feature_nd, _start(feature_nd, id_n, options, restart, world), options, world)
        for restart in range(options.restarts)
    ]
    return min(found, key=lambda clusters: clusters.inertia)


def _lloyd(feature_nd: Tensor, centroid_Kd: Tensor, options: KMeans, world: World) -> Clusters:
    """Assigns rows and moves centroids in turn, until no row changes its cluster."""
    label_n, distance_n = nearest(feature_nd, centroid_Kd)
    for _ in range(options.iterations):
        centroid_Kd = _moved(feature_nd, label_n, distance_n, options, world)
        before_n = label_n
        label_n, distance_n = nearest(feature_nd, centroid_Kd)
        if world.all(torch.equal(label_n, before_n)):
            break
    inertia = float(world.sum(distance_n.double().sum()))
    count_K = world.sum(torch.bincount(label_n, minlength=options.clusters))
    return Clusters(centroid_Kd, count_K, label_n, inertia)


def nearest(feature_nd: Tensor, centroid_Kd: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each row, and the squared distance to it. Of several, the first one."""
    squared_K = centroid_Kd.square().sum(dim=1)
    label_n = torch.empty(len(feature_nd), dtype=torch.int64, device=feature_nd.device)
    distance_n = feature_nd.new_empty(len(feature_nd))
    rows = max(ENTRIES // len(centroid_Kd), 1)
    for start in range(0, len(feature_nd), rows):
        chunk_cd, at = feature_nd[start : start + rows], slice(start, start + rows)
        least_c, label_n[at] = torch.addmm(squared_K, chunk_cd, centroid_Kd.T, alpha=-2).min(dim=1)
        distance_n[at] = (least_c + chunk_cd.square().sum(dim=1)).clamp(min=0)
    return label_n, distance_n


def _moved(feature_nd: Tensor, label_n: Tensor, distance_n: Tensor, options: KMeans, world: World) -> Tensor:
    """The means of the clusters. Those without rows divide large ones."""
    centroid_Kd, count_K = means(feature_nd, label_n, options.clusters, world)
    spread_K1, _ = means(distance_n[:, None], label_n, options.clusters, world)
    if options.spherical:
        centroid_Kd = normalize(centroid_Kd, dim=1)
    empty_k = torch.nonzero(count_K == 0).flatten()
    if not len(empty_k):
        return centroid_Kd
    divisible_K = (count_K > 1) & (spread_K1[:, 0] > 0)
    largest_k = torch.argsort(torch.where(divisible_K, count_K, 0), descending=True, stable=True)[: len(empty_k)]
    largest_k = largest_k[divisible_K[largest_k]]
    sign_d = 1 - 2.0 * (torch.arange(feature_nd.shape[1], device=feature_nd.device) % 2).to(centroid_Kd)
    step_kd = APART * spread_K1[largest_k].sqrt() * sign_d / len(sign_d) ** 0.5
    divided_kd = centroid_Kd[largest_k]
    centroid_Kd[largest_k] = divided_kd - step_kd
    centroid_Kd[empty_k[: len(largest_k)]] = divided_kd + step_kd
    return centroid_Kd


def _start(feature_nd: Tensor, id_n: Tensor, options: KMeans, restart: int, world: World) -> Tensor:
    """The first centroids, which are rows."""
    if options.start == "random":
        draw_n = _draws("k-means rows", options.seed, restart, id_n)
        return _lowest(feature_nd, draw_n, options.clusters, world)
    centroids = [_lowest(feature_nd, _draws("k-means first row", options.seed, restart, id_n), 1, world)]
    squared_n, distance_n = feature_nd.square().sum(dim=1), torch.full_like(feature_nd[:, 0], torch.inf)
    for number in range(1, options.clusters):
        last_d = centroids[-1][0]
        distance_n = torch.minimum(distance_n, squared_n - 2 * (feature_nd @ last_d) + last_d.square().sum())
        # The first of independent clocks of these rates rings at row i with a probability proportional to its rate.
        clock_n = -torch.log1p(-_draws("k-means++", options.seed, restart * options.clusters + number, id_n))
        centroids.append(_lowest(feature_nd, clock_n / distance_n.double().clamp(min=LEAST), 1, world))
    return torch.cat(centroids)


def _draws(purpose: str, seed: int, number: int, id_n: Tensor) -> Tensor:
    """A uniform number in [0, 1) for each row."""
    return torch.from_numpy(uniforms(purpose, seed, number, id_n.cpu().numpy(), 1)[:, 0]).to(id_n.device)


def _lowest(feature_nd: Tensor, value_n: Tensor, count: int, world: World) -> Tensor:
    """The rows of all ranks with the lowest values, lowest first."""
    order_n = torch.topk(value_n, min(count, len(value_n)), largest=False).indices
    value_c = value_n.new_full((count,), torch.inf)
    row_cd = feature_nd.new_zeros(count, feature_nd.shape[1])
    value_c[: len(order_n)], row_cd[: len(order_n)] = value_n[order_n], feature_nd[order_n]
    return world.gather(row_cd)[torch.argsort(world.gather(value_c), stable=True)[:count]]
