"""The memory of clusters and their centroids, which an episode finds anew (ProtoCLIP, Chen et al. 2023).

At an episode, K-means groups the vectors of each field that teaches another. The rows of a field are then compared with
centroids of their own field, grouped by the clusters of their teacher. Samples that the episode did not embed have no
cluster. Before the first episode there are no prototypes, and terms that use them have no loss.

Shape letters: n samples of this rank's share of the episode, N samples of a batch, K clusters, d and e dimensions.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.columns import read_pieces
from tercet.data_pipelines.seeding import keys
from tercet.distributed import World
from tercet.errors import UserError, did_you_mean
from tercet.modality import modality_of_vectors
from tercet.models.losses.problem import LABEL, Prototypes
from tercet.models.losses.rows import Rows
from tercet.training.memory.episode import Embedded, Episode, Learned, Recalled, SampleValues
from tercet.training.memory.memory import Memory
from tercet.training.memory.table import SampleTable
from tercet.training.prototypes.centroids import back_translated
from tercet.training.prototypes.config import FEATURES, PrototypesConfig
from tercet.training.prototypes.kmeans import KMeans, kmeans
from tercet.training.prototypes.pca import principal_components

NONE = -1  # the label of a sample without a cluster


@dataclass(frozen=True)
class Taught:
    """The clusters that a teacher found: that of each of this rank's samples with these ids (ascending), and the
    centroids in the teacher's own space."""

    id_n: Tensor
    label_n: Tensor
    centroid_Ke: Tensor

    def labels(self, id_n: Tensor) -> Tensor:
        """The clusters of samples, `NONE` where the teacher has no vector of a sample."""
        if not len(self.id_n):
            return torch.full_like(id_n, NONE)
        at_n = torch.searchsorted(self.id_n, id_n).clamp(max=len(self.id_n) - 1)
        return torch.where(self.id_n[at_n] == id_n, self.label_n[at_n], NONE)


class ClusterMemory(Memory):
    """`teachers`: whose clusters each modality learns. `wanted`: whose clusters batches are composed of."""

    def __init__(
        self,
        config: PrototypesConfig,
        teachers: Mapping[str, str],
        wanted: Collection[str],
        sources: Sequence[SourceIds],
        world: World,
    ) -> None:
        self.config, self.teachers, self.sources, self.world = config, dict(teachers), sources, world
        self.grouped = sorted({*self.teachers.values(), *wanted})
        self.found: dict[str, Prototypes] = {}  # by modality
        self.labels: dict[str, SampleTable] = {}  # by teacher

    def prototypes(self, field: str, rows: Rows, frozen: Mapping[str, Rows]) -> tuple[Prototypes, Tensor] | None:
        own = modality_of_vectors(field)
        if own not in self.found:
            return None
        return self.found[own], self.labels[self.teachers[own]].read(rows.id_N)[LABEL]

    def episode(self, episode: Episode) -> Learned:
        taught = {teacher: self._taught(teacher, episode) for teacher in self.grouped}
        tensors: dict[str, Tensor] = {}
        for name, teacher in sorted(self.teachers.items()):
            own, device = episode.vectors[name], self.world.device
            label_n = taught[teacher].labels(own.id_n).to(device)
            made = back_translated(own.z_nd.to(device), label_n, taught[teacher].centroid_Ke, self.world)
            tensors |= {f"{name}.{part}": value for part, value in vars(made).items()}
        columns = {name: SampleValues(one.id_n, {LABEL: one.label_n}) for name, one in taught.items()}
        return Learned(tensors, columns)

    def recall(self, recalled: Recalled) -> None:
        tensors = {name: value.to(self.world.device) for name, value in recalled.tensors().items()}
        self.found = {
            name: Prototypes(**{part: tensors[f"{name}.{part}"] for part in Prototypes.__dataclass_fields__})
            for name in self.teachers
            if f"{name}.centroid_Kd" in tensors
        }
        self.labels = {teacher: self._table(teacher, recalled) for teacher in set(self.teachers.values())}

    def _table(self, teacher: str, recalled: Recalled) -> SampleTable:
        """The labels of the samples that this rank owns."""
        table = SampleTable({LABEL: torch.int32}, self.sources, self.world, {LABEL: NONE})
        for piece in recalled.column(teacher):
            own_n = table.owned(piece.id_n)
            table.put(piece.id_n[own_n], {LABEL: piece.values[LABEL][own_n]})
        return table

    def _taught(self, teacher: str, episode: Episode) -> Taught:
        """Groups the vectors of a modality, or the features of another model."""
        own = self._features(episode) if teacher == FEATURES else episode.vectors[teacher]
        feature_nd = own.z_nd.to(self.world.device)
        if teacher == FEATURES and self.config.dims:
            feature_nd = principal_components(feature_nd, self.config.dims, self.world)(feature_nd)
        config, (seed,) = self.config, keys(f"clusters {teacher}", episode.seed, episode.step, [0])
        options = KMeans(
            config.clusters,
            config.iterations,
            config.restarts,
            config.start,
            config.spherical,
            int(seed >> np.uint64(1)),
        )
        found = kmeans(feature_nd, own.id_n.to(self.world.device), options, self.world)
        return Taught(own.id_n, found.label_n.cpu(), found.centroid_Kd)

    def _features(self, episode: Episode) -> Embedded:
        """The vectors of the column `features` of this rank's samples."""
        id_n = episode.id_n.numpy()
        found_n, rows = [np.zeros(0, dtype=np.int64)], []
        for one in self.sources:
            for piece in read_pieces(Path(str(self.config.features)), one.fingerprint):
                if self.config.feature not in piece.values:
                    raise UserError(
                        f"{self.config.features} has no `{self.config.feature}`; "
                        f"{did_you_mean(self.config.feature, piece.values)}"
                    )
                among_m = np.isin(piece.id_n + one.ids.start, id_n)
                found_n.append(piece.id_n[among_m] + one.ids.start)
                rows.append(piece.values[self.config.feature][among_m])
        return Embedded(torch.from_numpy(np.concatenate(found_n)), torch.from_numpy(np.concatenate(rows)).float())
