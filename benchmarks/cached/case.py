"""What both sides read: random features of one source, on disk and in memory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.columns import Column, write_part
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.features import GROUP, ROWS, FeatureManifest, StoredSource, StoredTower, reading
from tercet.data_pipelines.sample import FeatureIntake, Intake
from tercet.data_pipelines.source import Files

MODALITIES = ("image", "text")
PER_FILE, PER_SHARD = 2**16, 2**13
SEED = 0


@dataclass(frozen=True)
class CachedCase:
    """Features of `samples` samples in a folder, and batches of them."""

    folder: Path
    samples: int
    width: int
    batch: int

    def write(self) -> None:
        source = NoShards(self.samples)
        for first in range(0, self.samples, PER_FILE):
            id_n = np.arange(first, min(first + PER_FILE, self.samples))
            values: dict[str, NDArray[np.generic]] = {GROUP: -1 - id_n}
            for modality, rows_nd in self.tensors().items():
                vector_nd = rows_nd[id_n].numpy()
                values[modality] = vector_nd[:, None] if modality == "text" else vector_nd
                values[f"{modality}.{ROWS}"] = np.ones(len(id_n), dtype=np.int64)
            write_part(self.folder, source.fingerprint, Column(id_n, values))
        towers = {modality: StoredTower("random", self.width) for modality in MODALITIES}
        about = StoredSource(self.samples, self.samples, MODALITIES, reading(self.data.train["train"]))
        FeatureManifest("random", towers, {source.fingerprint: about}).write(self.folder)

    def tensors(self) -> dict[str, Tensor]:
        """The vectors of both modalities, which are alike for each sample."""
        random = torch.Generator().manual_seed(SEED)
        one = torch.randn(self.samples, self.width, generator=random)
        return {"image": one, "text": one + torch.randn(self.samples, self.width, generator=random)}

    @property
    def data(self) -> DataConfig:
        return DataConfig.model_validate({"train": "stored", "workers": 1})

    def loader(self) -> Loader:
        intakes: dict[str, Intake] = {
            modality: FeatureIntake(modality, str(self.folder), self.width) for modality in MODALITIES
        }
        return Loader(self.data, {"train": NoShards(self.samples)}, intakes, self.batch, seed=SEED)

    def sizes(self) -> dict[str, int]:
        return {"samples": self.samples, "width": self.width, "batch": self.batch, "modalities": len(MODALITIES)}


class NoShards:
    """A source whose files do not exist: of its samples, only the features are read."""

    def __init__(self, samples: int) -> None:
        sizes = [min(PER_SHARD, samples - first) for first in range(0, samples, PER_SHARD)]
        self.counts = np.array(sizes, dtype=np.int64)
        self.fingerprint = self.snapshot = f"random {samples}"

    def __len__(self) -> int:
        return int(self.counts.sum())

    def shard(self, id: int) -> str:
        return str(id // PER_SHARD)

    def key(self, id: int) -> str:
        return str(id)

    def path(self, id: int, modality: str) -> str:
        return self.shard(id)

    def size(self, id: int, modality: str) -> int:
        return 0

    def prefetch(self, ids: Sequence[int]) -> None:
        """Nothing: there are no files."""

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        return [BadSample("not stored") for _ in ids]
