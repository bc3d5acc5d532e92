"""Random vectors as extra negatives, where the space is crowded (DCLR, Zhou et al. 2022).

Vectors that fill only a narrow cone of the space are all similar. Negatives from the batch lie in that cone too. Noise
lies anywhere, so anchors that repel it spread out. Each step has new vectors, drawn from a Gaussian distribution and
projected onto the sphere, which then move towards the anchors by gradient ascent on

    U = -mean_i log( exp(⟨h_i, h_i⁺⟩ / τ) / Σ_j exp(⟨h_i, n_j⟩ / τ) )

over the anchors h and the noise n, whose gradient is Σ_i P_ij h_i / (N τ), where P is the softmax over the noise.
Every noise vector moves by `rate` along its own gradient, `ascents` times.

Where this differs from the paper: the anchors are those of the step before, because the noise must exist before the
towers have run. The gradient is projected onto the sphere, and vectors have length 1 after each move. `rate` is
constant; the paper changes it while training. Not verified: the paper's numbers.

Shape letters: N anchors, M noise vectors, d dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.seeding import keyed
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Outcome
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.memory import Memory, SavedMemory

TEMPERATURE = 0.05  # τ, that of SimCSE


class Noise(Memory):
    """`size` vectors for each field, new after each step. They are the same on every rank."""

    def __init__(
        self, fields: Sequence[str], size: int, ascents: int, rate: float, dim: int, seed: int, device: torch.device
    ) -> None:
        self.size, self.ascents, self.rate, self.dim, self.seed = size, ascents, rate, dim, seed
        self.device, self.steps = device, 0
        self.noise = {field: self._drawn(field) for field in fields}

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        return {field: Rows.frozen(noise_Md) for field, noise_Md in self.noise.items()}

    def after(self, batch: Batch, outcome: Outcome) -> None:
        self.steps += 1
        for field in self.noise:
            anchor_Nd, noise_Md = outcome.gathered[field].z_Nd.float(), self._drawn(field)
            for _ in range(self.ascents if len(anchor_Nd) else 0):
                noise_Md = ascended(noise_Md, anchor_Nd, self.rate)
            self.noise[field] = noise_Md

    def state(self) -> Iterator[SavedTensor]:
        yield SavedTensor("steps", torch.tensor([self.steps]))
        for field, noise_Md in self.noise.items():
            yield SavedTensor(f"{field}/vectors", noise_Md)

    def restore(self, saved: SavedMemory) -> None:
        known = set(saved.names())
        if "steps" in known:
            self.steps = int(saved.read("steps"))
        for field in self.noise:
            if f"{field}/vectors" in known:
                kept_Md = saved.read(f"{field}/vectors").to(self.device)
                self.noise[field] = kept_Md if kept_Md.shape == (self.size, self.dim) else self._drawn(field)

    def _drawn(self, field: str) -> Tensor:
        drawn_Md = keyed(f"noise {field}", self.seed, self.steps).standard_normal((self.size, self.dim))
        return normalize(torch.from_numpy(drawn_Md).to(self.device, torch.float32), dim=1)


@torch.no_grad()
def ascended(noise_Md: Tensor, anchor_Nd: Tensor, rate: float) -> Tensor:
    """The noise after one move along the gradient of U, on the sphere."""
    share_NM = torch.softmax(anchor_Nd @ noise_Md.T / TEMPERATURE, dim=1)
    gradient_Md = share_NM.T @ anchor_Nd / (len(anchor_Nd) * TEMPERATURE)
    along_Md = gradient_Md - (gradient_Md * noise_Md).sum(dim=1, keepdim=True) * noise_Md
    return normalize(noise_Md + rate * normalize(along_Md, dim=1), dim=1)
