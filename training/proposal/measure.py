"""Measures one real optimization step of the proposed recipe on this machine, and the time to load its samples.

The step is as large as memory and a few seconds allow. Larger steps take time in proportion to their rows. Samples come
from the data, repeated where a step needs more than were loaded. Random weights do: they take the same time and memory.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tercet.data_pipelines.open import open_loader
from tercet.data_pipelines.sample import Batch, Field, Intake
from tercet.distributed import World, joined
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import build_model, check_trainable
from tercet.training.config import RunConfig
from tercet.training.engines.build import build_engine
from tercet.training.engines.engine import Engine
from tercet.training.engines.optimizers import build_optimizer
from tercet.training.loop.step import Step

FIRST = 8  # rows of the steps that larger ones are extrapolated from
LOADED = 32  # samples
ROUNDS = 3  # the fastest counts: other work on the machine can only add time
PATIENCE = 5.0  # seconds that a measured step may take
MEMORY_SHARE = 0.8  # of a GPU's memory; the rest is for fragmentation and other programs


@dataclass(frozen=True)
class Measured:
    """`rows` of a rank's share of the batch took `seconds`, in chunks of `micro_batch` if there is one."""

    rows: int
    seconds: float
    loading: float  # seconds of one core for a sample
    micro_batch: int | None
    device: str

    def __str__(self) -> str:
        where = {"cpu": "CPU", "cuda": "GPU"}.get(self.device, self.device)
        step = f"a step of {self.rows:,} pairs took {self.seconds:.3g} s on the {where}, with random weights"
        return f"{step}, and a core loaded a sample in {self.loading * 1000:.2g} ms"

    def step(self, share: int) -> float:
        """Seconds that a step of so many rows takes."""
        return self.seconds * share / self.rows


def measure(config: RunConfig, share: int, in_memory: int | None) -> Measured:
    """`share`: a rank's part of the batch. `in_memory`: the rows that a CPU may hold at once; nothing: all."""
    with joined() as world, TemporaryDirectory() as folder:
        model = build_model(config.model, config.terms, config.seed).to(world.device)
        check_trainable(model, config.model)
        batch, loading = _load(config, model.intakes, world, Path(folder))
        batch = batch.to(world.device)
        bench = StepTimer(config, build_engine(model.train(), build_optimizer(model, config), config, world), world)
        bench.time(tiled(batch, FIRST), None)  # the first step also allocates and compiles
        pace = bench.time(tiled(batch, FIRST), None) / FIRST
        fits = bench.fitting_rows(batch) or in_memory or share
        micro = None if fits >= share else fits
        rows = min(share, 2 * micro if micro else share, max(FIRST, _power_of_two(PATIENCE / pace)))
        large = tiled(batch, rows)
        seconds = min(bench.time(large, min(micro, rows) if micro else None) for _ in range(ROUNDS))
        return Measured(rows, seconds, loading, micro, world.device.type)


class StepTimer:
    """Takes steps and measures their time and memory."""

    def __init__(self, config: RunConfig, engine: Engine, world: World) -> None:
        self.config, self.engine, self.world = config, engine, world
        self.cuda = world.device.type == "cuda"

    def time(self, batch: Batch, micro_batch: int | None) -> float:
        config = self.config
        step = Step(self.engine, Terms(config.terms, config.tile), self.world, config.seed, micro_batch)
        self._settle()
        start = time.perf_counter()
        step(batch, 0)
        self._settle()
        return time.perf_counter() - start

    def fitting_rows(self, batch: Batch) -> int | None:
        """How many rows fit into a GPU's memory, extrapolated from two steps; nothing on CPUs."""
        if not self.cuda:
            return None
        small, large = (self._peak(tiled(batch, rows)) for rows in (FIRST, 2 * FIRST))
        each = max((large - small) / FIRST, 1.0)
        total = torch.cuda.get_device_properties(self.world.device).total_memory
        return _power_of_two((MEMORY_SHARE * total - small) / each + FIRST)

    def _peak(self, batch: Batch) -> int:
        torch.cuda.reset_peak_memory_stats()
        self.time(batch, None)
        return torch.cuda.max_memory_allocated()

    def _settle(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def _load(config: RunConfig, intakes: dict[str, Intake], world: World, folder: Path) -> tuple[Batch, float]:
    """Some samples, and the seconds that this process took for each, without opening the data."""
    data = config.data.model_copy(update={"workers": 0, "max_bad": 1.0})  # bad samples were counted before
    batches = iter(open_loader(data, intakes, LOADED, config.seed, world, {}, folder))
    batch, times = next(batches), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        batch = next(batches)
        times.append(time.perf_counter() - start)
    return batch, min(times) / LOADED


def tiled(batch: Batch, rows: int) -> Batch:
    """`rows` items: those of the batch, repeated. Each is a group of its own, like different samples."""
    index = torch.arange(rows, device=batch.ids.device)
    fields = {name: _tiled(field, rows, len(batch)) for name, field in batch}
    return replace(batch, ids=index, groups=index, fields=fields)


def _tiled(field: Field, rows: int, items: int) -> Field:
    """Repetitions of an item lack the modalities that the item lacks."""
    rounds = -(-rows // items)
    item = torch.cat([field.item + items * number for number in range(rounds)])
    given = (field.lengths, field.masks, field.draws)
    lengths, masks, draws = (None if some is None else torch.cat([some] * rounds) for some in given)
    values = torch.cat([field.values] * rounds)
    whole = replace(field, values=values, item=item, lengths=lengths, masks=masks, draws=draws)
    return whole.rows(0, int((item < rows).sum()))


def _power_of_two(most: float) -> int:
    """The largest power of two that is at most `most`."""
    return 1 << max(0, int(most).bit_length() - 1)
