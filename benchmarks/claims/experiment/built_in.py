"""Trains image and text towers on the built-in data, and evaluates them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tercet.api.train import train
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import describe_world, generate
from tercet.data_pipelines.shards.cache import cache_folder

TERMS = ({"between": ["image", "text"]},)
RETRIEVAL = ("image→text R@1", "text→image R@1")


def image_text(
    seed: int,
    world: WorldConfig,
    terms: Sequence[Mapping[str, Any]] = TERMS,
    task: str = "retrieval",
    measures: Sequence[str] = RETRIEVAL,
    model: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, float]:
    """The measures of a task on validation data, in percent, after training the towers of the recipe `demo`, and beside
    each measure what its shortcut baselines reach, as `image, swapped accuracy: text alone`.

    `terms`, `model` and `settings` are keys of the recipe. `world` is generated when it is first used, and kept in the
    cache.
    """
    data = generated(world)
    given: dict[str, Any] = {
        "data": {"train": str(data / "train"), "val": str(data / "val")},
        "model": {"audio": None, **(model or {})},
        "pairs": dict.fromkeys(("image-text", "audio-text", "image-audio"), 0),
        "terms": list(terms),
        "eval": {"tasks": [task], "shortcuts": 0, "candidates": 1_000, "report": False},
        "log": {"to": []},
    }
    with TemporaryDirectory() as folder:
        results = train("demo", out=folder, seed=seed, **given, **settings).results
    found = {name: results[name] for name in measures}
    reached = {f"{name}: {by}": value for name, one in found.items() for by, value in one.shortcuts.items()}
    return {name: 100 * value for name, value in ({name: one.value for name, one in found.items()} | reached).items()}


def generated(world: WorldConfig) -> Path:
    return generate(world, cache_folder() / "claims" / f"world-{describe_world(world)['digest']}")
