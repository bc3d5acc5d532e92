"""Towers of the recipe `strong_baseline` on the built-in data, with a method added to it or without one.

Claims that add a method to this baseline have the same data, towers, samples and measures, so they share the runs of
the baseline: `Claim(runs=RUNS, …)`. Scenes have one or two objects. Captions have the same words in the same order, so
that a swapped one can be told from the right one only by what belongs together (see the claim `caption_negatives`).

So these data leave out one part of the recipe, captions in other words. With rewrites in a fifth of the draws, wrong
captions taught nothing about swapped attributes in trials, also if wrong captions were made from the rewrites by rules.

Measures, on held-out scenes:

- the accuracy on captions with swapped attributes, with the other relation and with a replaced attribute, and beside
  each what text alone finds;
- R@1 in both directions;
- the zero-shot accuracy, as the mean over shapes, colours, sizes and textures of single objects;
- the adjusted Rand index of K-means on the pictures of single objects, with as many clusters as there are pairs of a
  shape and a colour;
- the seconds of training, without evaluation.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tercet.api.data import looked_at
from tercet.api.evaluate import embedded
from tercet.api.train import train
from tercet.benchmarks.claims.experiment import built_in
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.distributed import World
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.evaluate import evaluate
from tercet.eval.result import Result
from tercet.eval.statistics.rand_index import adjusted_rand_index
from tercet.training.prototypes.kmeans import KMeans, kmeans

RUNS = RECIPE = "strong_baseline"
WORLD: dict[str, Any] = {
    "objects": (0.4, 0.6, 0.0), "generic": 0.0, "captions": 1, "negative_media": ("image",), "train": 8_000,
    "val": 1_500, "combinations": 0, "seconds": 0.5, "rate": 8_000, "seed": 3,
}  # fmt: skip
ATTRIBUTES = ("shape", "colour", "size", "texture")
TASKS = ("composition", "retrieval", *(f"zero_shot_{attribute}" for attribute in ATTRIBUTES))
SWAPPED, RECALL = "image, swapped accuracy", "image→text R@1"
KEPT = (SWAPPED, "image, relation accuracy", "image, replaced accuracy", RECALL, "text→image R@1")
ZERO_SHOT, RAND_INDEX, SECONDS = "zero-shot accuracy", "adjusted Rand index", "seconds of training"


@dataclass(frozen=True)
class Strong:
    """The baseline, or with `method`, further keys of the recipe, what is added to it."""

    method: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 800
    batch_size: int = 32
    lr: float = 1e-3
    warmup: float = 0.1
    schedule: str = "cosine"

    def run(self, seed: int) -> dict[str, float]:
        data = built_in.generated(WorldConfig.model_validate(WORLD))
        with TemporaryDirectory() as folder:
            seconds = self.train(Path(folder), data, seed)
            return {**measured(Path(folder), data), SECONDS: seconds}

    def train(
        self,
        out: Path,
        data: Path,
        seed: int,
        source: Mapping[str, Any] | None = None,
        reads: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> float:
        """Trains, and returns the seconds that it took. `source` has options of the training source, `reads` of `data`,
        and `settings` are further keys of the recipe."""
        start = time.perf_counter()
        train(
            RECIPE,
            out=out,
            seed=seed,
            data={
                "train": {"source": str(data / "train"), **(source or {})},
                "val": str(data / "val"),
                **(reads or {}),
            },
            eval={"tasks": []},
            log={"to": []},
            steps=self.steps,
            batch_size=self.batch_size,
            optimizer={"lr": self.lr},
            schedule={"name": self.schedule, "warmup": round(self.warmup * self.steps)},
            **self.method,
            **settings,
        )
        return round(time.perf_counter() - start, 1)


def measured(run: Path, data: Path) -> dict[str, float]:
    """All numbers but the Rand index and the seconds are in percent."""
    table, results = evaluated(run, data / "val", TASKS, candidates=1_000)
    found = {name: 100 * results[name].value for name in KEPT}
    blind = {f"{name}: {by}": 100 * value for name in KEPT for by, value in results[name].shortcuts.items()}
    zero_shot = mean(100 * results[f"{attribute} from image acc1"].value for attribute in ATTRIBUTES)
    return {**found, **blind, ZERO_SHOT: zero_shot, RAND_INDEX: rand_index(table)}


def evaluated(
    run: Path, source: Path, tasks: Sequence[str] = ("retrieval",), candidates: int | None = None
) -> tuple[EmbeddingTable, dict[str, Result]]:
    """The embeddings of a dataset by the model of a run, and the results of the tasks by name."""
    config = EvalConfig(tasks=tuple(tasks), candidates=candidates)
    with embedded(run, looked_at(str(run), {"source": str(source)}), config) as (model, tables):
        (table,) = tables.values()
        results = evaluate(table, model.towers.embed_text, tasks, config, "val")
    return table, {one.name: one for one in results}


def rand_index(table: EmbeddingTable) -> float:
    """Of K-means on the pictures of single objects, and the shape and the colour that they show."""
    items = table.items["image"].tolist()
    shown = [table.samples[item].meta["objects"] for item in items]
    single = [row for row, objects in enumerate(shown) if len(objects) == 1]
    kinds = [(shown[row][0]["shape"], shown[row][0]["colour"]) for row in single]
    names = sorted(set(kinds))
    options = KMeans(clusters=len(names), restarts=3)
    clusters = kmeans(table.vectors["image"][single], torch.tensor(single), options, World())
    return adjusted_rand_index(clusters.label_n, torch.tensor([names.index(kind) for kind in kinds]))
