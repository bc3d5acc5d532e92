"""Orders by clusters of samples: batches from one cluster each, or batches that hold all clusters equally often.

`OneCluster` follows MCL (Zhang et al. 2024): all negatives of an anchor share what made them one cluster, so that the
model must learn something else. `AllClusters` is cluster-balanced sampling: a small cluster comes as often as a
large one.

Shape letters: n positions, C clusters.
"""

import numpy as np

from tercet.data_pipelines.composition import ClustersConfig
from tercet.data_pipelines.plans.clusters import ClusterLabels, Groups
from tercet.data_pipelines.plans.order import Ints, region
from tercet.data_pipelines.plans.shuffle import shuffled
from tercet.data_pipelines.seeding import keys


class OneCluster:
    """Each batch comes from one cluster. `per_batch`: the samples of this source in a batch.

    In an epoch, a cluster has as many batches as it can fill without repeating a sample, and what is left over takes
    part in another epoch. With `weights: equal`, all clusters have as many batches as the mean cluster; a small one
    starts again.
    """

    def __init__(self, config: ClustersConfig, labels: ClusterLabels, seed: int, per_batch: int, streams: int) -> None:
        self.labels, self.per_batch, self._seed, self._streams = labels, per_batch, seed, streams
        self.groups = Groups(labels, config, per_batch)
        self._full_C = self.groups.size_C // per_batch
        mean = max(1, round(self._full_C.mean()))
        self._batches_C = np.full_like(self._full_C, mean) if config.weights == "equal" else self._full_C
        self._last_C = np.cumsum(self._batches_C)
        self._turns = int((-(-self._batches_C // self._full_C)).max())
        self._batches = int(self._last_C[-1])
        self._equal = config.weights == "equal"
        self.samples = self._batches * per_batch

    def epoch(self, position: int) -> int:
        return position // self.samples

    def at(self, position_n: Ints) -> Ints:
        cluster_n, block_n, turn_n = self._planned(position_n)
        place_n = block_n * self.per_batch + position_n % self.per_batch
        return self.groups.ids(cluster_n, place_n, self._seed, turn_n)

    def appearance(self, position_n: Ints) -> Ints:
        return self._planned(position_n)[2]

    def piece(self, position_n: Ints) -> Ints:
        """By the place of a sample in the source, so that each process reads its own region."""
        return region(self.at(position_n), self._streams, len(self.labels.label_N))

    def __str__(self) -> str:
        often = "equally often" if self._equal else "by size"
        return f"each batch comes from one of {self.groups}, {often}, by {self.labels}"

    def _planned(self, position_n: Ints) -> tuple[Ints, Ints, Ints]:
        """The cluster of the batch at each position, its block of that cluster, and the turn of the cluster."""
        epoch_n, batch_n = np.divmod(position_n // self.per_batch, self._batches)
        goes_n = shuffled(batch_n, self._batches, keys("clusters", self._seed, epoch_n, np.zeros_like(epoch_n)))
        cluster_n = np.searchsorted(self._last_C, goes_n, side="right")
        number_n = goes_n - (self._last_C - self._batches_C)[cluster_n]
        turn_n, block_n = np.divmod(number_n, self._full_C[cluster_n])
        return cluster_n, block_n, epoch_n * self._turns + turn_n


class AllClusters:
    """Every C positions in a row have one sample of each cluster. A small cluster starts again more often."""

    def __init__(self, config: ClustersConfig, labels: ClusterLabels, seed: int, per_batch: int, streams: int) -> None:
        self.labels, self._seed, self._streams = labels, seed, streams
        self.groups = Groups(labels, config, per_batch)
        self.clusters = len(self.groups.size_C)
        self.samples = len(self.groups.id_M)

    def epoch(self, position: int) -> int:
        return position // self.samples

    def at(self, position_n: Ints) -> Ints:
        cluster_n, place_n, turn_n = self._planned(position_n)
        return self.groups.ids(cluster_n, place_n, self._seed, turn_n)

    def appearance(self, position_n: Ints) -> Ints:
        return self._planned(position_n)[2]

    def piece(self, position_n: Ints) -> Ints:
        """As in `OneCluster`."""
        return region(self.at(position_n), self._streams, len(self.labels.label_N))

    def __str__(self) -> str:
        return f"each batch has equally many samples of {self.groups}, by {self.labels}"

    def _planned(self, position_n: Ints) -> tuple[Ints, Ints, Ints]:
        """The cluster at each position, the place within it, and how often the cluster has started again."""
        round_n, number_n = np.divmod(position_n, self.clusters)
        cluster_n = shuffled(number_n, self.clusters, keys("clusters", self._seed, 0, round_n))
        turn_n, place_n = np.divmod(round_n, self.groups.size_C[cluster_n])
        return cluster_n, place_n, turn_n
