"""Groups the samples of a source by the embeddings of a model, and writes the cluster of each as a column.

With the column of an earlier grouping, clusters lie within those: label = earlier label × K + cluster, as in MCL (Zhang
et al. 2024), where each stage adds what its model has learned. A sample without a cluster has the label -1.

Shape letters: n samples of this rank that have the modality, N samples of the source, d dimensions.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.columns import Column, read_column, write_column
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError, did_you_mean
from tercet.eval.embedding.embed_data import embed_data
from tercet.eval.embedding.store import Store
from tercet.modality import FILES
from tercet.models.multimodal import Multimodal
from tercet.plural import number_of
from tercet.training.prototypes.kmeans import KMeans, kmeans

LABEL = "label"
NONE = -1


@dataclass(frozen=True)
class ClusteredSource:
    """The sizes of the clusters of a source, and how far its samples are from their centroids."""

    name: str
    fingerprint: str
    modality: str
    samples: int
    sizes: tuple[int, ...]  # largest first
    inertia: float

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        rest = self.samples - sum(self.sizes)
        without = f"; {number_of(rest, 'sample')} without a cluster" if rest else ""
        return (
            f"{self.name}: {number_of(len(self.sizes), 'cluster')} by {self.modality}, of {self.sizes[-1]:,} to "
            f"{self.sizes[0]:,} samples{without}"
        )


@dataclass(frozen=True)
class ClusterTask:
    """What is grouped, by which modality (none: pictures, else sounds, else captions), and within which clusters."""

    model: Multimodal
    name: str
    data: DataConfig
    split: SplitConfig
    options: KMeans
    among: str | None = None
    within: Path | None = None


def cluster_source(task: ClusterTask, out: Path, world: World) -> ClusteredSource:
    """Writes the column of a source to `out`. A collective."""
    source = OpenedSources().open_first(task.data, task.split, world)
    store = embed_data(task.model, task.data, task.split, world)
    modality = modality_of_features(task.among, store)
    id_n, feature_nd = features(store, modality, world)
    id_n, feature_nd = id_n.to(world.device), feature_nd.to(world.device)
    found = kmeans(feature_nd, id_n, task.options, world)
    label_N = torch.zeros(len(source), dtype=torch.int64, device=world.device)
    label_N[id_n] = found.label_n + 1
    label_N = world.sum(label_N) - 1
    if task.within is not None:
        label_N = _within(label_N, task.within, source.fingerprint, task.options.clusters)
    if world.first:
        write_column(out, source.fingerprint, Column(np.arange(len(source)), {LABEL: label_N.cpu().numpy()}))
    world.barrier()
    size = torch.unique(label_N[label_N != NONE], return_counts=True)[1]
    sizes = tuple(sorted(size.tolist(), reverse=True))
    return ClusteredSource(task.name, source.fingerprint, modality, len(source), sizes, found.inertia)


def modality_of_features(among: str | None, store: Store) -> str:
    held = [name for name in FILES if name in store.modalities]
    if among is not None and among not in held:
        raise UserError(f"the data hold no {among} that the model encodes; {did_you_mean(among, held)}")
    return among or next((name for name in held if name != "text"), held[0])


def features(store: Store, modality: str, world: World) -> tuple[Tensor, Tensor]:
    """The ids of this rank's samples and their unit vectors."""
    ids, vectors = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, store.facts["modalities"][modality]["dim"])]
    for piece in range(world.rank, store.pieces_count, world.size):
        id_n, feature_nd = piece_features(store, modality, piece)
        ids.append(id_n)
        vectors.append(feature_nd)
    return torch.cat(ids), torch.cat(vectors)


def piece_features(store: Store, modality: str, piece: int) -> tuple[Tensor, Tensor]:
    """The ids of the samples of a piece and their unit vectors. Of several captions, the mean direction counts."""
    rows_rd, item_r = store.rows(piece, modality)
    own_n, index_r = torch.unique(item_r, return_inverse=True)
    sum_nd = torch.zeros(len(own_n), rows_rd.shape[1]).index_add_(0, index_r, rows_rd)
    id_s = torch.tensor([sample.id for sample in store.samples(piece)], dtype=torch.int64)
    return id_s[own_n], normalize(sum_nd, dim=1)


def _within(label_N: Tensor, folder: Path, fingerprint: str, clusters: int) -> Tensor:
    """The labels within earlier ones."""
    column = read_column(folder, fingerprint)
    if LABEL not in column.values:
        raise UserError(f"{folder} has no values `{LABEL}`; name a folder that `tercet data cluster` wrote")
    earlier_N = torch.full_like(label_N, NONE)
    earlier_N[torch.from_numpy(column.id_n).to(label_N.device)] = torch.from_numpy(column.values[LABEL]).to(label_N)
    return torch.where((label_N == NONE) | (earlier_N < 0), NONE, earlier_N * clusters + label_N)
