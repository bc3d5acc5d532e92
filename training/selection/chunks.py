"""Chunked sampling: a joint selection chooses a batch in chunks, each given the samples that were chosen before.

Each stratum contributes its share of every chunk. If a stratum keeps fewer samples than there are chunks, different
strata contribute to different chunks. The random part of a sample's preference belongs to its place in the super-batch.
So the number of processes changes nothing.

Shapes: n samples of this rank, S strata of this rank, C chunks.
"""

import numpy as np
import torch
from torch import Tensor

from tercet.data_pipelines.seeding import FRACTION, uniforms
from tercet.distributed import World
from tercet.training.selection.candidates import Candidates
from tercet.training.selection.strata import Strata

LOWEST = torch.finfo(torch.float64).min  # of samples in no term; those that are not free are lower


def gumbel(purpose: str, seed: int, step: int, places: range, count: int) -> Tensor:
    """Gumbel noise `[n, count]` for the samples at these places. The k highest sums of noise and logit are k samples
    without replacement, with probabilities ∝ exp(logit)."""
    uniform_nC = uniforms(purpose, seed, step, np.asarray(places), count).clip(min=FRACTION)
    return torch.from_numpy(-np.log(-np.log(uniform_nC)))


class ChunkSampler:
    """Draws the batch of a step. `error` is the rounding error of a preference: of noise and `gain` times the score."""

    def __init__(
        self, candidates: Candidates, strata: Strata, world: World, chunks: int, gain: float, error: float
    ) -> None:
        self.candidates, self.strata, self.world = candidates, strata, world
        self.chunks, self.gain, self.error = chunks, gain, error
        self.chunk_n = torch.full((candidates.samples,), -1, dtype=torch.int64, device=world.device)  # -1: not chosen
        self.near_ties = 0

    def draw(self, noise_nC: Tensor) -> None:
        """Draws all chunks, each given those before it."""
        for chunk in range(self.chunks):
            self.draw_chunk(chunk, self.candidates.scores() if chunk else self.candidates.alone(), noise_nC)

    def redraw(self, noise_nC: Tensor) -> None:
        """A sweep of block Gibbs sampling: draws every chunk again, given all others."""
        for chunk in range(self.chunks):
            self.chunk_n[self.chunk_n == chunk] = -1
            self.draw_chunk(chunk, self.candidates.scores(without=chunk), noise_nC)

    def draw_chunk(self, chunk: int, score_n: Tensor, noise_nC: Tensor) -> None:
        """Draws a chunk among the samples that no chunk has. All ranks learn which these are."""
        preference_n = (self.gain * score_n + noise_nC[:, chunk]).nan_to_num(nan=LOWEST)
        preference_n = torch.where(self.chunk_n < 0, preference_n, -torch.inf)
        take_S = self.strata.shares(self.world, chunk, self.chunks)
        found = self.strata.highest(preference_n, take_S, self.error)
        self.chunk_n[found.places] = chunk
        self.near_ties += found.near_ties
        self.candidates.choose(chunk, torch.nonzero(self.world.gather(self.chunk_n == chunk)).flatten())
