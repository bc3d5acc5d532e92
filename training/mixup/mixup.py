"""Mixup by the flip of a coin: each step mixes either pictures or texts, never both (ZeroVL, Cui et al. 2022).

A sample i and its partner p, the one at the mirrored place of its part of the batch, become λ i + (1 − λ) p in one
modality. Its target in the other modality is mixed in the same way: own key λ, key of the partner 1 − λ (`infonce` has
the loss). λ and the modality are the same for the whole batch.

Each process has whole parts, so the result depends neither on the number of processes nor on `micro_batch`: pictures
are mixed before they are cut into chunks, vectors after those of all chunks are known. A sample stays as it is if it or
its partner lacks a modality, or if both are of one group.

Where this differs from the authors' code: they mirror within the micro-batch of a process, and mix texts after the
projection, before their vectors are normalised; here unit vectors are mixed, and normalised anew. Mixed pictures are
rounded to whole values.

Shape letters: B items of this rank, n rows of a field.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.seeding import keyed
from tercet.distributed import World
from tercet.models.losses.problem import PARTNER, SHARE
from tercet.training.mixup.config import MixupConfig

Vectors = Mapping[str, Tensor]


@dataclass(frozen=True)
class MixedBatch:
    """A batch whose pictures may be mixed. If not, the vectors of `field` will be: row k with row `partner_n[k]`."""

    batch: Batch
    field: str = ""
    share: float = 1.0
    partner_n: Tensor | None = None

    def vectors(self, vectors: Vectors) -> Vectors:
        """The vectors that the terms compare."""
        if self.partner_n is None:
            return vectors
        z_nd = vectors[self.field]
        mixed_nd = normalize(self.share * z_nd + (1 - self.share) * z_nd[self.partner_n], dim=1)
        return {**vectors, self.field: mixed_nd}

    def slopes(self, vectors: Vectors, slopes: Vectors) -> Vectors:
        """The gradients of the vectors before they were mixed, from those of the mixed ones."""
        if self.partner_n is None:
            return slopes
        z_nd = vectors[self.field].detach().requires_grad_()
        with torch.enable_grad():
            mixed_nd = self.vectors({self.field: z_nd})[self.field]
        (slope_nd,) = torch.autograd.grad(mixed_nd, z_nd, slopes[self.field])
        return {**slopes, self.field: slope_nd}


Mix = Callable[[Batch, int], MixedBatch]


def unmixed(batch: Batch, step: int) -> MixedBatch:
    return MixedBatch(batch)


class Mixup:
    """Mixes a batch. The seed and the step determine the modality and the share."""

    def __init__(self, config: MixupConfig, batch_size: int, seed: int, world: World) -> None:
        self.config, self.seed, self.world = config, seed, world
        self.strata = config.strata_on(batch_size, world.size)

    def __call__(self, batch: Batch, step: int) -> MixedBatch:
        random = keyed("mixup", self.seed, step)
        field = self.config.fields[int(random.integers(len(self.config.fields)))]
        share = float(random.beta(self.config.alpha, self.config.alpha))
        partner_B = self._partners(batch)
        numbers_B = torch.arange(len(batch), device=partner_B.device)
        values = {
            PARTNER: (partner_B + self.world.rank * len(batch)).double(),
            SHARE: torch.where(partner_B == numbers_B, 1.0, share),
        }
        batch = replace(batch, values={**batch.values, **values})
        rows = batch.fields[field]
        place_B = torch.zeros_like(partner_B)
        place_B[rows.item] = torch.arange(len(rows), device=place_B.device)
        partner_n = place_B[partner_B[rows.item]]
        if rows.modality != "image":
            return MixedBatch(batch, field, share, partner_n)
        fields = {**batch.fields, field: replace(rows, values=blended(rows.values, partner_n, share))}
        return MixedBatch(replace(batch, fields=fields))

    def _partners(self, batch: Batch) -> Tensor:
        """The place of each item's partner in this rank's part of the batch; its own place if it is not mixed."""
        own_B = torch.arange(len(batch), device=batch.ids.device)
        mirrored_B = own_B.view(self.strata, -1).flip(1).flatten()
        whole_B = torch.ones_like(own_B, dtype=torch.bool)
        for name in self.config.fields:
            whole_B &= torch.isin(own_B, batch.fields[name].item)
        mixed_B = whole_B & whole_B[mirrored_B] & (batch.groups != batch.groups[mirrored_B])
        return torch.where(mixed_B, mirrored_B, own_B)


def blended(values: Tensor, partner_n: Tensor, share: float) -> Tensor:
    """Each picture mixed with that of its partner."""
    mixed = share * values.float() + (1 - share) * values[partner_n].float()
    return mixed.round().to(values.dtype)


def build_mixup(config: MixupConfig | None, batch_size: int, seed: int, world: World) -> Mix:
    return unmixed if config is None else Mixup(config, batch_size, seed, world)
