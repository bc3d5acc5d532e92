"""One optimisation step, plain or gradient-cached, over any number of ranks.

The terms compute the exact gradient g of each row from detached vectors z. The towers then back-propagate the surrogate
Σ⟨z, g⟩. With `micro_batch` (GradCache, Gao et al. 2021) the towers run twice: first over all chunks without a graph,
and, after the loss of the whole batch is known, again chunk by chunk with the same dropout masks. The memory grows with
the chunk, and the gradient is that of the whole batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.modality import field_of
from tercet.models.losses.terms import Outcome, Terms
from tercet.training.engines.engine import Engine, Stepped
from tercet.training.loop.scoring import AS_TRAINED, Scoring
from tercet.training.memory.memories import NO_MEMORIES, Memories
from tercet.training.mixup.mixup import Mix, MixedBatch, unmixed

Temperatures = dict[str, tuple[Tensor, Tensor | None]]  # scale and bias by term


@dataclass(frozen=True)
class Taken:
    """The result of a step. All ranks skip the update if the loss or the gradient is not finite."""

    outcome: Outcome
    temperatures: Temperatures
    stepped: Stepped


class Step:
    """Trains the engine's weights on one batch."""

    def __init__(
        self,
        engine: Engine,
        terms: Terms,
        world: World,
        seed: int,
        micro_batch: int | None,
        memories: Memories = NO_MEMORIES,
        scoring: Scoring = AS_TRAINED,
        mix: Mix = unmixed,
    ) -> None:
        self.engine, self.terms, self.world, self.mix = engine, terms, world, mix
        self.seed, self.micro_batch, self.memories, self.scoring = seed, micro_batch, memories, scoring

    def __call__(self, batch: Batch, step: int) -> Taken:
        """Takes step number `step`. The number, the seed and the rank determine all dropout masks."""
        rows, mixed = self.micro_batch, self.mix(batch, step)
        taken = self._plain(mixed, step) if rows is None else self._cached(mixed, step, rows)
        if taken.stepped.applied:
            self.memories.after(mixed.batch, taken.outcome)
        return taken

    @torch.no_grad()
    def embed(self, batch: Batch) -> tuple[dict[str, Tensor], Temperatures]:
        """The vectors of all rows that exist, for scoring: without dropout and without a graph, and at the size and in
        the precision of `scoring`. Restores the modes of the modules and the random generators. A collective."""
        chunks = [batch] if self.micro_batch is None else chunk(batch, self.micro_batch, self.world)
        with evaluating(self.engine.module, self.world.device):
            parts = [self.engine(self.scoring.view(part), self.scoring.bf16) for part in chunks]
        return joined(chunks, [vectors for vectors, _ in parts]), parts[0][1]

    def _plain(self, mixed: MixedBatch, step: int) -> Taken:
        batch = mixed.batch
        vectors, temperatures = self._run(batch, step, 0)
        known, plain = self.memories.known(batch), existing(batch, vectors)
        outcome = self.terms(batch, mixed.vectors(plain), detached(temperatures), self.world, known, step)
        if torch.isfinite(outcome.loss):
            slopes = mixed.slopes(plain, outcome.rows)
            self.engine.backward(self._surrogate(vectors, slopes, temperatures, outcome.temperatures))
        return self._finish(outcome, temperatures)

    def _cached(self, mixed: MixedBatch, step: int, rows: int) -> Taken:
        batch, chunks = mixed.batch, chunk(mixed.batch, rows, self.world)
        with torch.no_grad():
            parts = [self._run(part, step, index) for index, part in enumerate(chunks)]
        vectors, temperatures = joined(chunks, [vectors for vectors, _ in parts]), parts[0][1]
        known = self.memories.known(batch)
        outcome = self.terms(batch, mixed.vectors(vectors), temperatures, self.world, known, step)
        if torch.isfinite(outcome.loss):
            whole = mixed.slopes(vectors, outcome.rows)
            for index, part in enumerate(chunks):
                vectors, temperatures = self._run(part, step, index)
                slopes = {name: slope[index * rows : (index + 1) * rows] for name, slope in whole.items()}
                temperature_slopes = outcome.temperatures if index == 0 else {}  # once, not in each chunk
                self.engine.backward(self._surrogate(vectors, slopes, temperatures, temperature_slopes))
        return self._finish(outcome, temperatures)

    def _run(self, batch: Batch, step: int, index: int) -> tuple[dict[str, Tensor], Temperatures]:
        seed_dropout(self.seed, step, self.world.rank, index)
        return self.engine(batch)

    def _surrogate(
        self,
        vectors: Mapping[str, Tensor],
        slopes: Mapping[str, Tensor],
        temperatures: Temperatures,
        temperature_slopes: Mapping[str, tuple[Tensor, Tensor]],
    ) -> Tensor:
        """A scalar whose gradient, averaged over ranks, is the true gradient. Dummy rows get a gradient of zero."""
        total = torch.zeros((), device=self.world.device)
        for name, z_nd in vectors.items():
            slope_nd = torch.zeros_like(z_nd)
            slope_nd[: len(slopes[name])] = slopes[name][:, : z_nd.shape[1]]  # without the padding of tokens
            total = total + self.world.size * (z_nd * slope_nd).sum()
        for term, (scale_slope, bias_slope) in temperature_slopes.items():
            scale, bias = temperatures[term]
            total = total + (scale * scale_slope).sum()
            if bias is not None:
                total = total + (bias * bias_slope).sum()
        return total

    def _finish(self, outcome: Outcome, temperatures: Temperatures) -> Taken:
        finite = bool(torch.isfinite(outcome.loss))
        stepped = self.engine.step() if finite else Stepped(float("nan"), applied=False)
        return Taken(outcome, detached(temperatures), stepped)


def seed_dropout(seed: int, step: int, rank: int, chunk: int) -> None:
    """Seeds the generator of the dropout masks, so that a chunk gets the same masks in both passes."""
    key = np.random.SeedSequence([seed, step, rank, chunk])
    torch.manual_seed(int(key.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def existing(batch: Batch, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The detached vectors of the rows that exist, without the dummy row."""
    return {name: z_nd.detach()[: len(batch.fields[field_of(name)])] for name, z_nd in vectors.items()}


def joined(chunks: Sequence[Batch], parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The vectors of a whole batch from those of its chunks."""
    whole = [existing(chunk, vectors) for chunk, vectors in zip(chunks, parts, strict=True)]
    return {name: torch.cat(equally_long([part[name] for part in whole])) for name in whole[0]}


def equally_long(parts: Sequence[Tensor]) -> list[Tensor]:
    """Tokens, padded to the longest row of all parts. Vectors stay as they are."""
    longest = max(part.shape[1] for part in parts)
    return [part if part.ndim == 2 else pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts]


@contextmanager
def evaluating(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Sets all modules to evaluation mode, then restores their modes and the random generators."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def detached(temperatures: Temperatures) -> Temperatures:
    return {term: (s.detach(), None if b is None else b.detach()) for term, (s, b) in temperatures.items()}


def chunk(batch: Batch, rows: int, world: World) -> list[Batch]:
    """Splits the batch into chunks of `rows` rows of each field. All ranks make the same number; some may be empty."""
    longest = max(len(field) for _, field in batch)
    count = world.max(max(1, -(-longest // rows)))
    return [
        replace(batch, fields={name: field.rows(index * rows, (index + 1) * rows) for name, field in batch})
        for index in range(count)
    ]
