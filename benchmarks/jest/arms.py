"""The runs that `tercet bench jest` compares, and the reference model, which each seed trains once.

Scenes have one or two objects and one caption each. All arms have the same data, towers, batch size, learning rate and
schedule, and share the order of the data by seed. The rate and the schedule are the best of `--sweep` for uniform
batches. R@1 is the mean of both directions among the 450 held-out scenes that differ (of 500), 20 times in a run.

The reference is trained on the first scenes of the same world with right captions: a small curated part of the data. It
has the same towers as the learner. It embeds the training data once, and all arms of a seed read its vectors.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from tercet.api.train import train
from tercet.api.vector_column import embed_column
from tercet.benchmarks.claims.experiment.built_in import generated
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.eval.report.curves import read_lines
from tercet.training.loop.flops import Flops, count_flops
from tercet.training.pretrained import load_model

WORLD: dict[str, Any] = {
    "objects": (0.4, 0.6, 0.0), "generic": 0.0, "captions": 1, "val": 500, "combinations": 0, "seconds": 0.5,
    "rate": 8_000, "seed": 3,
}  # fmt: skip
SCENES = 10_000  # enough that uniform batches do not overfit, which would favour every selection
EVALUATIONS = 20
FIELDS = ("image", "text")
FIRST_SWEEP_SEED = 1_000
MODEL: dict[str, Any] = {"audio": None, "text": {"encoder": "small:text", "options": {"depth": 2}}}
R1, FLOPS_TRAINING, FLOPS_SCORING, FLOPS_REFERENCE, BAD, SECONDS = (
    "R@1", "FLOPs of training a step", "FLOPs of scoring a step", "FLOPs of training the reference",
    "share of wrong captions trained on", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """The reference model: the towers of the learner, trained on a few scenes with right captions."""

    scenes: int = 2_000
    steps: int = 400
    batch_size: int = 64
    lr: float = 1e-3

    def folder(self, seed: int) -> Path:
        """The folder of its run, which is trained if it is not there yet."""
        digest = blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=8).hexdigest()
        folder = cache_folder() / "jest" / f"reference-{digest}-{seed}"
        if not (folder / "eval.json").is_file():
            data = world(0.0, self.scenes)
            settings = recipe(data, self.steps, self.batch_size, self.lr, "cosine", evaluations=1)
            train("demo", out=folder, seed=seed, **settings)
        return folder

    def vectors(self, seed: int, noise: float, scenes: int) -> Path:
        """The folder of the vectors that it gives to the training data. Computes them if they are missing."""
        run = self.folder(seed)
        vectors = run.with_name(f"{run.name}-vectors-{scenes}-{noise:g}")
        if not vectors.is_dir():
            partial = vectors.with_name(f"{vectors.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # of an interrupted call
            embed_column(str(run), str(world(noise, scenes) / "train"), partial)
            partial.rename(vectors)
        return vectors

    def flops(self, seed: int, scenes: int) -> float:
        """Those of its training, and of embedding the training data."""
        one = flops_of(str(self.folder(seed)))
        each = dict.fromkeys(FIELDS, 1)
        return self.steps * self.batch_size * one.training(each) + scenes * one.scoring(each)


@dataclass(frozen=True)
class Trained:
    """One run. `noise`: the share of wrong captions. `selection`: its keys of the recipe; none for uniform batches."""

    noise: float
    selection: Mapping[str, Any] = field(default_factory=dict)
    reference: Reference | None = None
    model: Mapping[str, Any] = field(default_factory=dict)  # keys of the model that differ from the other arms
    steps: int = 400
    batch_size: int = 64
    lr: float = 1e-3
    schedule: str = "cosine"
    scenes: int = SCENES
    first_seed: int = 0

    def run(self, seed: int) -> dict[str, float]:
        seed += self.first_seed
        settings = recipe(
            world(self.noise, self.scenes), self.steps, self.batch_size, self.lr, self.schedule, EVALUATIONS
        )
        settings["model"] = {**MODEL, **self.model}
        if self.selection:
            known = {"bad": "mismatched", "record": False}
            if self.reference:
                known["reference_vectors"] = str(self.reference.vectors(seed, self.noise, self.scenes))
            settings["selection"] = {**self.selection, **known}
        with TemporaryDirectory() as folder:
            train("demo", out=folder, seed=seed, **settings)
            found = measured(Path(folder), self.batch_size)
        cost = self.reference.flops(seed, self.scenes) if self.reference else 0.0
        return {**found, FLOPS_REFERENCE: cost}


@dataclass(frozen=True)
class Planned:
    """What is run at one share of wrong captions."""

    seeds: int
    arms: tuple[str, ...]


JEST: dict[str, Any] = {"name": "jest", "filter_ratio": 0.5, "strata": 1}
SELECTIONS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "independent": {**JEST, "method": "independent"},
    "JEST": JEST,
    "JEST + sweeps": {**JEST, "sweeps": 2},
    "Flexi-JEST": {**JEST, "filter_ratio": 0.8, "scoring": {"size": 32, "mixed": 0.5}},
    "hard learner": {**JEST, "criterion": "hard_learner"},
}
PLAN = {
    0.5: Planned(5, tuple(SELECTIONS)),
    0.3: Planned(5, ("uniform", "independent", "JEST")),
    0.1: Planned(3, ("uniform", "JEST")),
    0.0: Planned(3, ("uniform", "JEST")),
}
SWEEP = {
    f"{lr:g}, {schedule}": Trained(0.5, lr=lr, schedule=schedule, first_seed=FIRST_SWEEP_SEED)
    for lr, schedule in ((1e-3, "cosine"), (5e-4, "cosine"), (2e-3, "cosine"), (4e-3, "cosine"), (1e-3, "constant"))
}


def arms_at(noise: float, steps: int | None = None) -> dict[str, Trained]:
    """The arms at a share of wrong captions, uniform batches first."""
    arms = {}
    for name in PLAN[noise].arms:
        selection = SELECTIONS[name]
        needs = selection.get("criterion", "learnability") != "hard_learner" and bool(selection)
        arms[name] = Trained(noise, selection, Reference() if needs else None)
    return arms if steps is None else {name: replace(arm, steps=steps) for name, arm in arms.items()}


def world(noise: float, scenes: int) -> Path:
    return generated(WorldConfig.model_validate({**WORLD, "train": scenes, "mismatched": noise}))


def recipe(data: Path, steps: int, batch_size: int, lr: float, schedule: str, evaluations: int) -> dict[str, Any]:
    """The keys of the recipe that all runs share."""
    return {
        "data": {
            "train": str(data / "train"), "val": str(data / "val"), "values": {"mismatched": "json.mismatched"},
        },
        "model": MODEL,
        "pairs": {"image-text": 1.0, "audio-text": 0, "image-audio": 0},
        "eval": {
            "tasks": ["retrieval"], "shortcuts": 0, "candidates": WORLD["val"], "report": False,
            "every": max(1, steps // evaluations),
        },
        "log": {"to": [], "analysis": False},
        "steps": steps,
        "batch_size": batch_size,
        "optimizer": {"lr": lr},
        "schedule": {"name": schedule, "warmup": 0.1},
    }  # fmt: skip


def measured(run: Path, batch_size: int) -> dict[str, float]:
    """R@1 in percent at the end and at each evaluation, and the FLOPs of a step."""
    lines = read_lines(run / "metrics.jsonl")
    curve = {int(line["step"]): recall(line["results"]) for line in read_lines(run / "evaluations.jsonl")}
    found = {at(step): value for step, value in sorted(curve.items())}

    def mean(name: str, default: float) -> float:
        values = [line[name] for line in lines if line.get(name) is not None]
        return fmean(values) if values else default

    return {
        R1: curve[max(curve)],
        **found,
        FLOPS_TRAINING: mean(
            "selection/flops_training", flops_of(str(run)).training(dict.fromkeys(FIELDS, batch_size))
        ),
        FLOPS_SCORING: mean("selection/flops_scoring", 0.0),
        BAD: mean("selection/bad_chosen", -1.0),
        SECONDS: lines[-1]["time"] - lines[0]["time"],
    }


def at(step: int) -> str:
    return f"{R1} at step {step}"


def curve_of(numbers: Mapping[str, float]) -> dict[int, float]:
    """R@1 by step."""
    prefix = at(0)[:-1]
    return {int(name.removeprefix(prefix)): value for name, value in numbers.items() if name.startswith(prefix)}


def recall(results: list[dict[str, Any]]) -> float:
    """The mean R@1 of both directions, in percent."""
    return 100 * fmean(value for one in results for name, value in one["metrics"].items() if name.endswith("R@1"))


@lru_cache
def flops_of(run: str) -> Flops:
    """The FLOPs of the towers of a run."""
    model = load_model(run)
    return count_flops(model, {name: model.intakes[name] for name in FIELDS})
