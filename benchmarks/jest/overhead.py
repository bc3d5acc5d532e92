"""What a joint selection costs: in units of a training step, and its sampler against one with all pairs in memory.

Towers are the small ones of the recipe `demo`, on pictures of noise and on generated captions. A step trains on `batch`
samples, and a selection scores five times as many (`filter_ratio` 0.8). All sides alternate in one process.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.benchmarks.jest.naive import Seen, naive_selection
from tercet.benchmarks.loss.memory import extra_bytes, return_what_is_freed
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow
from tercet.configs.layers import Layer, nested
from tercet.data_pipelines.sample import Batch, Field, TextIntake, channels_first
from tercet.distributed import World
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import build_model
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.engines.build import build_engine
from tercet.training.engines.optimizers import build_optimizer
from tercet.training.loop.flops import count_flops, rows_of
from tercet.training.loop.scoring import build_scoring
from tercet.training.loop.step import Step
from tercet.training.memory.memories import NO_MEMORIES
from tercet.training.recipe import layered
from tercet.training.selection.candidates import Candidates, PairViews, Temperature, View, Views
from tercet.training.selection.chunks import ChunkSampler, gumbel
from tercet.training.selection.jest import ROUNDING
from tercet.training.selection.pair_losses import Softmax
from tercet.training.selection.strata import Strata

RATIO, CHUNKS, GAIN, DIM, TILE = 0.8, 16, 4.0, 128, 512
SCALES = 20.0, 30.0  # of the learner and of the reference
FULL, HALF = "full size", "half the size"
SMALL: Mapping[str, Any] = {"size": 32}


def overhead_rows(batch: int, rounds: int) -> list[BenchRow]:
    parts: dict[str, Callable[[], list[BenchRow]]] = {
        f"the sampler, batch {batch}": partial(sampler_rows, batch, rounds),
        f"scoring, batch {batch}": partial(step_rows, batch, rounds),
    }
    return [row for part in announced(list(parts)) for row in parts[part]()]


def sampler_rows(batch: int, rounds: int) -> list[BenchRow]:
    """The sampler alone, on given vectors: time and peak memory, each peak in a new process."""
    drawn = round(batch / (1 - RATIO))
    sizes = {"batch": batch, "drawn": drawn, "dim": DIM, "chunks": CHUNKS, "rounds": rounds}
    sides = {who: partial(sample, who, drawn, batch) for who in ("ours", "naive")}
    seconds = take_turns(sides, rounds)
    peaks = {who: on_ranks(peak, 1, who, drawn, batch)[0] / 2**20 for who in sides}
    ours, naive = (median(seconds[who]) for who in sides)
    memory = peaks["ours"] / max(peaks["naive"], 1e-9)
    return [
        BenchRow("sampler time", ours, naive, "all pairs in memory", ours / naive, unit="s", sizes=sizes),
        BenchRow(
            "sampler memory", peaks["ours"], peaks["naive"], "all pairs in memory", memory, unit="MiB", sizes=sizes
        ),
    ]


def sample(who: str, drawn: int, kept: int) -> Tensor:
    """The places that one side chooses among synthetic vectors."""
    models, noise_NC = inputs(drawn)
    return naive_selection(models, kept, noise_NC, GAIN) if who == "naive" else our_selection(models, kept, noise_NC)


def inputs(drawn: int) -> tuple[list[Seen], Tensor]:
    """The vectors of both models, which agree with each other about as much as those of trained models."""
    random = torch.Generator().manual_seed(0)
    common_Nd = torch.randn(drawn, DIM, generator=random)
    models = []
    for scale, blur in zip(SCALES, (1.5, 1.0), strict=True):
        x_Nd, y_Nd = (normalize(common_Nd + blur * torch.randn(drawn, DIM, generator=random), dim=1) for _ in "xy")
        models.append((x_Nd, y_Nd, scale))
    return models, gumbel("bench", 0, 0, range(drawn), CHUNKS)


def our_selection(models: list[Seen], kept: int, noise_NC: Tensor) -> Tensor:
    drawn = len(noise_NC)
    views = tuple(
        View(x_Nd, y_Nd, Temperature(scale, 0.0), Softmax(), weight)
        for (x_Nd, y_Nd, scale), weight in zip(models, (1.0, -1.0), strict=True)
    )
    pair = PairViews("image-text", torch.ones(drawn, dtype=torch.bool), 1.0, views)
    every = Views([pair], torch.arange(drawn), slice(0, drawn), TILE)
    error = GAIN * every.scale * ROUNDING
    sampler = ChunkSampler(Candidates(every, CHUNKS), Strata(1, kept), World(), CHUNKS, GAIN, error)
    sampler.draw(noise_NC)
    return torch.nonzero(sampler.chunk_n >= 0).flatten()


def peak(world: World, who: str, drawn: int, kept: int) -> int:
    return_what_is_freed()
    sample(who, 4 * CHUNKS, CHUNKS)  # loads libraries and starts threads
    return extra_bytes(lambda: sample(who, drawn, kept), world.device)


def step_rows(batch: int, rounds: int) -> list[BenchRow]:
    """Scoring in units of a training step: by the learner at full size and at half of it, and by a reference."""
    full, half = Learner(batch, None), Learner(batch, SMALL)
    drawn = full.batch(round(batch / (1 - RATIO)))
    kept = full.batch(batch)
    sides: dict[str, Callable[[], object]] = {
        "step": lambda: full.step(kept, 0),
        FULL: lambda: full.step.embed(drawn),
        HALF: lambda: half.step.embed(drawn),
        "reference": lambda: full.reference(drawn),
        "sampler": partial(sample, "ours", len(drawn), batch),
    }
    seconds = take_turns(sides, rounds)
    unit = median(seconds["step"])
    sizes = {"batch": batch, "drawn": len(drawn), "rounds": rounds, "threads": torch.get_num_threads()}
    flops = full.flops.training(rows_of(kept))
    counted = {who: one.flops.scoring(rows_of(drawn)) / flops for who, one in ((FULL, full), (HALF, half))}
    found = [
        ("scoring by the learner", [FULL], counted[FULL]),
        ("scoring by the learner at half the size", [HALF], counted[HALF]),
        ("scoring by a reference that is not cached", ["reference"], counted[FULL]),
        ("sampling", ["sampler"], None),
        ("selection with a cached reference", [FULL, "sampler"], None),
        ("selection at half the size with a cached reference", [HALF, "sampler"], None),
    ]
    return [
        BenchRow(
            name, cost := sum(median(seconds[part]) for part in parts), unit, "a training step", cost / unit, unit="s",
            sizes=sizes, beyond={"FLOPs": ratio, "seconds": {part: seconds[part] for part in ("step", *parts)}},
        )
        for name, parts, ratio in found
    ]  # fmt: skip


def take_turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each side in each round, after one to warm up."""
    seconds: dict[str, list[float]] = {who: [] for who in sides}
    for turn in range(rounds + 1):
        for who, call in sides.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[who].append(time.perf_counter() - start)
    return seconds


class Learner:
    """The towers and the step of a run, in one process. The reference is a second model with the same towers."""

    def __init__(self, batch: int, scoring: Mapping[str, Any] | None) -> None:
        config, world = run_config(batch, scoring), World()
        self.model, other = (build_model(config.model, config.terms, seed) for seed in (0, 1))
        self._reference = other.eval()
        assert config.selection
        how = build_scoring(config.selection.scoring, self.model, world.device)
        self.flops = count_flops(self.model, {name: self.model.intakes[name] for name in self.model.fields}, None, how)
        engine = build_engine(self.model.train(), build_optimizer(self.model, config), config, world)
        terms = Terms(config.terms, config.tile)
        self.step = Step(engine, terms, world, config.seed, None, NO_MEMORIES, how)

    @torch.no_grad()
    def reference(self, batch: Batch) -> dict[str, Tensor]:
        return {name: self._reference.embed_field(field) for name, field in batch}

    def batch(self, items: int) -> Batch:
        """Pictures of noise, and captions as long as those of the built-in data."""
        random, item, intakes = torch.Generator().manual_seed(0), torch.arange(items), self.model.intakes
        images, texts = intakes["image"], intakes["text"]
        assert isinstance(texts, TextIntake)
        values = torch.randint(0, 256, (items, *images.shape), generator=random).to(torch.uint8)
        tokens = texts.tokenize([f"a small striped red circle above a large {number} star" for number in range(items)])
        fields = {
            "image": Field("image", channels_first(values, images), item),
            "text": Field("text", tokens, item),
        }
        return Batch(item, item, fields)


def run_config(batch: int, scoring: Mapping[str, Any] | None) -> RunConfig:
    """The recipe `demo` with pictures and texts only."""
    changes = {
        "model.audio": None,
        "pairs": {"image-text": 1.0, "audio-text": 0, "image-audio": 0},
        "batch_size": batch,
        "selection": {"name": "loss", "filter_ratio": RATIO, "scoring": scoring},
    }
    return layered("demo", [Layer("bench", nested(key, value)) for key, value in changes.items()])
