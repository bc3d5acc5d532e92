"""The vectors of the last steps, as extra negatives (MoCo, He et al. 2020).

With an `encoder`, a slowly moving copy of the towers fills it, as in MoCo. Without, the trained towers themselves do,
as in XBM (Wang et al. 2020): vectors of older steps were then made by older weights, so they are used from step `start`
on, when the weights have begun to change slowly.

The queue holds the rows of all ranks in the order of the items of the global batch, and is the same on every rank.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

import torch

from tercet.data_pipelines.sample import Batch
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Outcome
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.memory import Memory, SavedMemory, StageContext


class VectorQueue(Memory):
    """The newest `size` vectors of each field, oldest first. Empty at first, and again when `origin` changes.

    It offers none before `start` steps were applied. `encoder` is the memory that makes the vectors; by default, the
    trained model makes them.
    """

    def __init__(
        self,
        fields: Sequence[str],
        size: int,
        start: int,
        dim: int,
        origin: str,
        device: torch.device,
        encoder: str = "",
    ) -> None:
        self.encoder = encoder
        self.size, self.start, self.origin, self.steps = size, start, origin, 0
        self.none = Rows.frozen(torch.zeros(0, dim, device=device))
        self.rows = {field: Rows.frozen(torch.zeros(0, dim, device=device)) for field in fields}

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        return self.rows if self.steps >= self.start else dict.fromkeys(self.rows, self.none)

    def after(self, batch: Batch, outcome: Outcome) -> None:
        self.steps += 1
        for field, rows in self.rows.items():
            new = outcome.frozen[f"{self.encoder}.{field}"] if self.encoder else outcome.gathered[field]
            z_Nd, group_N, id_N = (
                torch.cat([old, late])[-self.size :]
                for old, late in ((rows.z_Nd, new.z_Nd), (rows.group_N, new.group_N), (rows.id_N, new.id_N))
            )
            self.rows[field] = Rows.frozen(z_Nd, group_N, id_N)

    def state(self) -> Iterator[SavedTensor]:
        yield SavedTensor(f"{self.origin}/steps", torch.tensor([self.steps]))
        for field, rows in self.rows.items():
            yield SavedTensor(f"{self.origin}/{field}/vectors", rows.z_Nd)
            yield SavedTensor(f"{self.origin}/{field}/groups", rows.group_N)
            yield SavedTensor(f"{self.origin}/{field}/ids", rows.id_N)

    def restore(self, saved: SavedMemory) -> None:
        known = set(saved.names())
        if f"{self.origin}/steps" in known:
            self.steps = int(saved.read(f"{self.origin}/steps"))
        for field, rows in self.rows.items():
            names = [f"{self.origin}/{field}/{part}" for part in ("vectors", "groups", "ids")]
            if known.issuperset(names):
                self.rows[field] = Rows.frozen(*(saved.read(name).to(rows.z_Nd.device) for name in names))


def origin_of(context: StageContext) -> str:
    """Differs when ids and groups mean other samples, or the stage trains other fields or fills them otherwise."""
    sources = [share.fingerprint for share in context.plan.shares]
    trained = sorted({field for term in context.config.terms for field in term.fields})
    further = context.config.fields
    fields = [(name, further[name].model_dump(mode="json") if name in further else None) for name in trained]
    return sha256(json.dumps([sources, fields]).encode()).hexdigest()[:16]
