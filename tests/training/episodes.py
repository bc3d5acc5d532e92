"""A run of a few steps with episodes, whose memory comes from the plugin `field_means.py`, and ways to read them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tercet.data_pipelines.columns import Column, read_column
from tercet.distributed import World
from tercet.plugins import load_plugins
from tercet.training.episodes.embed import drawn
from tercet.training.episodes.store import EPISODES
from tests.training.tiny import MODEL, recipe, run

PLUGIN = Path(__file__).with_name("field_means.py")
STEPS, EVERY = 8, 3  # so episodes before steps 3 and 6, counted from 0
Job = tuple[dict[str, Any], int | None]


def with_episodes(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = recipe(
        data, out, model={**MODEL, "audio": None}, pairs={"image-text": 1.0}, steps=STEPS, batch_size=8,
        memories={"means": {"kind": "field_means"}}, against={"text": ["means.image"]}, episodes={"every": EVERY},
    )  # fmt: skip
    return values | changes


def run_all(world: World, jobs: list[Job]) -> list[list[int]]:
    """The steps of the episodes that each job embedded samples for."""
    load_plugins([PLUGIN])
    found = []
    for values, stop in jobs:
        with embedding() as steps:
            run(world, values, stop)
        found.append(steps)
    return found


@contextmanager
def embedding() -> Iterator[list[int]]:
    steps: list[int] = []

    def noting(*arguments: Any) -> Any:
        steps.append(arguments[-1])
        return drawn(*arguments)

    with patch("tercet.training.episodes.episodes.drawn", noting):
        yield steps


def columns(out: Path, step: int) -> dict[str, Column]:
    folder = out / EPISODES / f"step_{step:08d}"
    found = {}
    for place in (*(folder / "vectors").glob("*/*"), *(folder / "memories/means").glob("*/*")):
        found[place.parent.name] = read_column(place.parent, place.name)
    return found
