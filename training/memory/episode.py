"""What an episode gives to a memory, what the memory returns, and what it reads of it when a run resumes.

Shape letters: n samples that this rank embedded, d dimensions of the joint space.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.columns import has_column, read_pieces
from tercet.distributed import World

TENSORS = "tensors.safetensors"


@dataclass(frozen=True)
class SampleValues:
    """Values by name, `[n, …]`, of the samples with these ids in batches. In main memory."""

    id_n: Tensor
    values: Mapping[str, Tensor]


@dataclass(frozen=True)
class Embedded:
    """Unit vectors of one modality of the samples that this rank embedded, in fp32 and in main memory.

    Samples without the modality are left out. `id_n`: the ids that the samples have in batches, ascending.
    """

    id_n: Tensor
    z_nd: Tensor


@dataclass(frozen=True)
class Episode:
    """This rank's share of the samples, and their vectors by modality. The ranks together have each sample once.

    `id_n`: the samples that were drawn, also those without vectors. `step`: how many steps the run has taken. It and
    `seed` are what random choices depend on.
    """

    step: int
    seed: int
    id_n: Tensor
    vectors: Mapping[str, Embedded]
    world: World


@dataclass(frozen=True)
class Learned:
    """What a memory keeps of an episode: tensors that are the same on all ranks, and values of this rank's samples."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    columns: Mapping[str, SampleValues] = field(default_factory=dict)


@dataclass(frozen=True)
class Recalled:
    """What a memory kept of an episode, as its folder holds it."""

    folder: Path
    sources: Sequence[SourceIds]

    def tensors(self) -> dict[str, Tensor]:
        path = self.folder / TENSORS
        return load_file(path) if path.is_file() else {}

    def column(self, name: str) -> Iterator[SampleValues]:
        """The values of the samples of all ranks, in pieces, without those of sources that the stage does not use."""
        for one in self.sources:
            if has_column(self.folder / name, one.fingerprint):
                for piece in read_pieces(self.folder / name, one.fingerprint):
                    values = {key: torch.from_numpy(value) for key, value in piece.values.items()}
                    yield SampleValues(torch.from_numpy(piece.id_n) + one.ids.start, values)
