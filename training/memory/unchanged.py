"""What a run reads and never changes, such as the weights of a teacher or its stored vectors.

A checkpoint has a fingerprint of it, so that a run cannot resume with another one. The fingerprint has the name of its
origin, because another stage may read another one.
"""

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor
from xxhash import xxh3_64_hexdigest, xxh3_128

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.columns import column_files
from tercet.data_pipelines.shards.fingerprint import fingerprint
from tercet.errors import UserError
from tercet.models.multimodal import Multimodal
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.memory import Memory, SavedMemory


class Unchanged(Memory):
    """`where`: the recipe key and the place, for the error. `what`: such as `weights`."""

    def __init__(self, where: str, what: str, origin: str, digest: Tensor) -> None:
        self.where, self.what, self.digest = where, what, digest
        self._name = f"fingerprint-{xxh3_64_hexdigest(origin.encode())}"

    def state(self) -> Iterator[SavedTensor]:
        yield SavedTensor(self._name, self.digest)

    def restore(self, saved: SavedMemory) -> None:
        if self._name in saved.names() and not torch.equal(saved.read(self._name), self.digest):
            raise UserError(
                f"{self.where} has other {self.what} than when this run began; restore those {self.what}, or start a "
                "new run with out=…"
            )


def fixed_weights(key: str, spec: str, model: Multimodal) -> Unchanged:
    """All weights of a model."""
    digest = blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return Unchanged(f"{key}: {spec}", "weights", spec, as_tensor(digest.digest()))


def fixed_columns(
    key: str, what: str, folder: Path, sources: Sequence[SourceIds], about: Sequence[object]
) -> Unchanged:
    """The files of some sources in a folder: the size and a few blocks of each. `about`: further values, as JSON."""
    state = xxh3_128(json.dumps(about).encode())
    for source in sources:
        for path in column_files(folder, source.fingerprint):
            state.update(f"{path.name} {fingerprint(str(path))}".encode())
    origin = json.dumps([str(folder), *(source.fingerprint for source in sources)])
    return Unchanged(f"{key}: {folder}", what, origin, as_tensor(state.digest()))


def as_tensor(digest: bytes) -> Tensor:
    return torch.tensor(list(digest), dtype=torch.uint8)
