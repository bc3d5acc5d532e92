"""A queue of momentum vectors that is divided into clusters while it trains: the clustered memory of BECLR
(Poulakakis-Daktylidis and Jamali-Rad 2024).

When the queue is full for the first time, K-means divides it. From then on, after each applied step,

1. the new vectors are divided among the clusters: a transport plan with uniform margins (`eval/transport.py`) sends
   each to the centroids at the least cost 1 − cosine, and it joins the cluster that it sends most to;
2. they replace the oldest vectors;
3. each centroid becomes decay · centroid + (1 − decay) · mean of its members, with length 1. One without members stays.

A sample of the batch is in the cluster whose centroid is nearest to its momentum vector. So its positives, which the
objective `same_cluster` takes, are members of the cluster that are near its own key. All vectors are constants.

The rows of a batch are kept in the order of their samples' ids, so that the queue does not depend on the number of
ranks. It is the same on every rank.

Where this differs from the authors' code: that has Euclidean distances between unit vectors, adds the batch before it
looks for positives, and takes them from the whole queue if a cluster has too few. Centroids have length 1 here.

Shape letters: N vectors of a batch or of the queue, K clusters, d dimensions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.seeding import keys
from tercet.eval.transport import transport_plan
from tercet.models.losses.problem import LABEL, Prototypes
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Outcome
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.memory import Memory, SavedMemory, StageContext
from tercet.training.memory.vector_queue import origin_of
from tercet.training.prototypes.centroids import means
from tercet.training.prototypes.config import ClusteredQueueConfig
from tercet.training.prototypes.kmeans import KMeans, kmeans, nearest

ITERATIONS = 20  # of the transport plan
NONE = -1  # the label of a vector or a sample without a cluster


class ClusteredQueue(Memory):
    """The newest vectors of a field, oldest first, and their clusters.

    Empty at first, and again when `origin` or the number of clusters changes.

    It offers them once it was full and `start` steps were applied.
    """

    def __init__(self, config: ClusteredQueueConfig, context: StageContext) -> None:
        start = config.start if config.start >= 1 else config.start * context.config.steps
        self.config, self.world, self.seed = config, context.world, context.config.seed
        self.start, self.origin, self.steps = round(start), origin_of(context), 0
        self.encoded = f"{config.encoder}.{config.field}"
        none_0d = torch.zeros(0, context.dim, device=context.world.device)
        self.none = labelled(Rows.frozen(none_0d), none_0d[:, 0].long())
        self.rows, self.centroid_Kd = self.none, none_0d

    @property
    def ready(self) -> bool:
        return len(self.centroid_Kd) > 0 and self.steps >= self.start

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        return {self.config.field: self.rows if self.ready else self.none}

    def prototypes(self, field: str, rows: Rows, frozen: Mapping[str, Rows]) -> tuple[Prototypes, Tensor] | None:
        if not self.ready:
            return None
        everywhere_K = torch.ones(len(self.centroid_Kd), dtype=torch.bool, device=self.centroid_Kd.device)
        found = Prototypes(self.centroid_Kd, everywhere_K, self.centroid_Kd)
        return found, rows.extra[LABEL] if LABEL in rows.extra else self._of_batch(rows.item_N, frozen[self.encoded])

    def _of_batch(self, item_N: Tensor, encoded: Rows) -> Tensor:
        """The clusters of items of the batch, by their momentum vectors. Rows of no item have none."""
        if not len(encoded):
            return torch.full_like(item_N, NONE)
        label_N, _ = nearest(encoded.z_Nd.float(), self.centroid_Kd)
        at_N = torch.searchsorted(encoded.item_N, item_N).clamp(max=len(encoded) - 1)
        return torch.where(encoded.item_N[at_N] == item_N, label_N[at_N], NONE)

    def after(self, batch: Batch, outcome: Outcome) -> None:
        self.steps += 1
        new = outcome.frozen[self.encoded]
        order_N = torch.argsort(new.id_N, stable=True)
        z_Nd = new.z_Nd[order_N].float()
        clustered = len(self.centroid_Kd) > 0
        label_N = torch.full_like(order_N, NONE)
        if clustered and len(z_Nd):
            label_N = evenly(z_Nd, self.centroid_Kd, self.config.entropy)
        added = labelled(Rows.frozen(z_Nd, new.group_N[order_N], new.id_N[order_N]), label_N)
        self.rows = joined(self.rows, added, self.config.size)
        if clustered:
            self._move()
        elif len(self.rows) == self.config.size:
            self._divide()

    def _divide(self) -> None:
        """The first clusters, by K-means."""
        own, (seed,) = self._own_share(), keys("clustered queue", self.seed, self.steps, [0])
        options = KMeans(self.config.clusters, spherical=True, seed=int(seed >> np.uint64(1)))
        id_n = torch.arange(own.start, own.stop, device=self.world.device)
        self.centroid_Kd = kmeans(self.rows.z_Nd[own], id_n, options, self.world).centroid_Kd
        self.rows = labelled(self.rows, nearest(self.rows.z_Nd, self.centroid_Kd)[0])

    def _move(self) -> None:
        """Moves the centroids towards the means of their members."""
        own = self._own_share()
        mean_Kd, count_K = means(self.rows.z_Nd[own], self.rows.extra[LABEL][own], len(self.centroid_Kd), self.world)
        moved_Kd = normalize(mean_Kd.lerp(self.centroid_Kd, self.config.decay), dim=1)
        self.centroid_Kd = torch.where(count_K[:, None] > 0, moved_Kd, self.centroid_Kd)

    def _own_share(self) -> slice:
        share = self.world.share(range(len(self.rows)))
        return slice(share[0], share[-1] + 1) if share else slice(0, 0)

    def state(self) -> Iterator[SavedTensor]:
        yield SavedTensor(f"{self.origin}/steps", torch.tensor([self.steps]))
        parts = {"vectors": self.rows.z_Nd, "groups": self.rows.group_N, "ids": self.rows.id_N}
        for name, value in {**parts, "labels": self.rows.extra[LABEL], "centroids": self.centroid_Kd}.items():
            yield SavedTensor(f"{self.origin}/{name}", value)

    def restore(self, saved: SavedMemory) -> None:
        if f"{self.origin}/steps" not in saved.names():
            return
        self.steps = int(saved.read(f"{self.origin}/steps"))
        z_Nd, group_N, id_N, label_N, centroid_Kd = (
            saved.read(f"{self.origin}/{name}").to(self.world.device)
            for name in ("vectors", "groups", "ids", "labels", "centroids")
        )
        if len(centroid_Kd) in (0, self.config.clusters):
            self.rows, self.centroid_Kd = labelled(Rows.frozen(z_Nd, group_N, id_N), label_N), centroid_Kd


def evenly(z_Nd: Tensor, centroid_Kd: Tensor, entropy: float) -> Tensor:
    """The cluster of each vector, so that all clusters get about as many."""
    return transport_plan(1 - z_Nd @ centroid_Kd.T, entropy, ITERATIONS).argmax(dim=1)


def labelled(rows: Rows, label_N: Tensor) -> Rows:
    return replace(rows, extra={LABEL: label_N})


def joined(old: Rows, new: Rows, size: int) -> Rows:
    """The newest rows of both."""
    z_Nd, group_N, id_N, label_N = (
        torch.cat([one, other])[-size:]
        for one, other in (
            (old.z_Nd, new.z_Nd), (old.group_N, new.group_N), (old.id_N, new.id_N), (old.extra[LABEL], new.extra[LABEL])
        )
    )  # fmt: skip
    return labelled(Rows.frozen(z_Nd, group_N, id_N), label_N)
