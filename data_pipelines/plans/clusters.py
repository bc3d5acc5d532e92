"""The clusters of the samples of a source: a column of labels, and the groups that batches are made of.

Shape letters: N samples of the source, C clusters that batches are made of, M their members, n positions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest

from tercet.data_pipelines.columns import column_digest, read_column
from tercet.data_pipelines.composition import EPISODE, ClustersConfig
from tercet.data_pipelines.plans.order import Ints
from tercet.data_pipelines.plans.sample_list import SampleList
from tercet.data_pipelines.plans.shuffle import shuffled
from tercet.data_pipelines.seeding import keys
from tercet.data_pipelines.source import Source
from tercet.errors import UserError, did_you_mean
from tercet.plural import number_of

NONE = -1


@dataclass(frozen=True)
class ClusterLabels:
    """The cluster of each sample; -1 for none, or if the list leaves the sample out."""

    folder: str
    digest: str  # of the column and of the options
    label_N: Ints

    @property
    def sizes(self) -> Ints:
        return np.unique(self.label_N[self.label_N != NONE], return_counts=True)[1]

    def to_json(self) -> dict[str, object]:
        sizes = self.sizes
        without = int(np.count_nonzero(self.label_N == NONE))
        extremes = {"smallest": int(sizes.min()), "largest": int(sizes.max())}
        return {"folder": self.folder, "digest": self.digest, "clusters": len(sizes), **extremes, "without": without}

    def __str__(self) -> str:
        sizes, without = self.sizes, int(np.count_nonzero(self.label_N == NONE))
        rest = f", {number_of(without, 'sample')} in none" if without else ""
        return (
            f"{self.folder} (digest {self.digest}): {number_of(len(sizes), 'cluster')} of {sizes.min():,} to "
            f"{sizes.max():,} samples{rest}"
        )


def read_clusters(config: ClustersConfig, source: Source, listed: SampleList | None = None) -> ClusterLabels:
    folder = Path(config.column)
    check_clusters(config.column)
    column = read_column(folder, source.fingerprint)
    if config.name not in column.values:
        raise UserError(f"{folder} has no values `{config.name}`; {did_you_mean(config.name, column.values)}")
    label_n = column.values[config.name]
    if label_n.ndim != 1 or label_n.dtype.kind not in "iu":
        raise UserError(f"{folder}: `{config.name}` must be one whole number for each sample")
    if column.id_n.max(initial=0) >= len(source):
        raise UserError(
            f"{folder} names the id {column.id_n.max()}, but the last id of the source is {len(source) - 1}"
        )
    label_N = np.full(len(source), NONE, dtype=np.int64)
    label_N[column.id_n] = np.maximum(label_n, NONE)
    if listed is not None:
        if listed.times_N.max() > 1:
            raise UserError(
                f"{listed.path} lists samples several times an epoch, which `clusters` cannot do; drop the counts"
            )
        label_N[listed.times_N == 0] = NONE
    if (label_N == NONE).all():
        raise UserError(f"{folder} puts no sample into a cluster; labels must be 0 or more")
    options = config.model_dump_json(exclude={"column"})
    digest = xxh3_64_hexdigest(f"{column_digest(folder, source.fingerprint)} {options}".encode())
    return ClusterLabels(config.column, digest, label_N)


def check_clusters(folder: str) -> None:
    if folder != EPISODE and not Path(folder).is_dir():
        raise UserError(f"the column of clusters {folder} does not exist; write one with `tercet data cluster`")


def clusters_summary(name: str, folder: str) -> str:
    """The column in one line. Needs only its files, not the data."""
    if folder == EPISODE:
        return "found anew at each episode"
    check_clusters(folder)
    samples, labels = 0, set[int]()
    for place in sorted(Path(folder).iterdir()):
        label_n = read_column(Path(folder), place.name).values[name]
        samples, labels = samples + len(label_n), labels | set(label_n[label_n > NONE].tolist())
    return f"{folder}: {number_of(samples, 'sample')} in {number_of(len(labels), 'cluster')}"


class Groups:
    """The samples of each cluster that batches are made of. Small clusters are merged or left out."""

    def __init__(self, labels: ClusterLabels, config: ClustersConfig, per_batch: int) -> None:
        found, cluster_N, size = np.unique(labels.label_N, return_inverse=True, return_counts=True)
        size[found == NONE] = 0
        kept = _large(size, config, per_batch)
        small = ~kept & (size > 0)
        self.small, self.small_samples = int(small.sum()), int(size[small].sum())
        self.merged = config.small == "merge" and self.small_samples >= max(_least(kept, config, per_batch), 1)
        number = np.where(kept, np.cumsum(kept) - 1, NONE)
        if self.merged:
            number[small] = kept.sum()
        number_N = number[cluster_N]
        self.id_M = np.flatnonzero(number_N != NONE)
        self.id_M = self.id_M[np.argsort(number_N[self.id_M], kind="stable")]
        self.size_C = np.bincount(number_N[number_N != NONE])
        self.first_C = np.cumsum(self.size_C) - self.size_C
        if not len(self.id_M):
            raise UserError(
                f"{labels.folder}: the largest cluster has {size.max():,} samples, but a batch takes {per_batch:,} "
                "from one; make fewer clusters, or lower `batch_size`"
            )

    def ids(self, cluster_n: Ints, place_n: Ints, seed: int, turn_n: Ints) -> Ints:
        """The samples at these places of clusters, which are shuffled anew in each turn."""
        key_n = keys("cluster", seed, turn_n, cluster_n)
        id_n: Ints = self.id_M[self.first_C[cluster_n] + shuffled(place_n, self.size_C[cluster_n], key_n)]
        return id_n

    def __str__(self) -> str:
        clusters = f"{number_of(len(self.size_C), 'cluster')} of {self.size_C.min():,} to {self.size_C.max():,} samples"
        if not self.small:
            return clusters
        small = f"{number_of(self.small, 'small cluster')} with {number_of(self.small_samples, 'sample')}"
        return f"{clusters}; {small} {'became one of them' if self.merged else 'left out'}"


def _large(size: Ints, config: ClustersConfig, per_batch: int) -> NDArray[np.bool_]:
    """Which clusters are large enough. In mixed batches, each gives the more, the fewer there are."""
    kept = size > 0
    while kept.any():
        enough = size >= max(_least(kept, config, per_batch), 1)
        if np.array_equal(enough, kept):
            break
        kept = enough
    return kept


def _least(kept: NDArray[np.bool_], config: ClustersConfig, per_batch: int) -> int:
    takes = per_batch if config.mix == "between_batches" else -(-per_batch // max(int(kept.sum()), 1))
    return max(takes, config.min_size or 0)
