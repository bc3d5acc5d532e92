"""A run lists and opens each of its sources once, from its checks to its last evaluation."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tercet.data_pipelines.manifests.find import ManifestFile
from tercet.data_pipelines.sources import files as listing
from tercet.data_pipelines.sources import open as opening
from tercet.data_pipelines.sources.open import open_split
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.folder import open_folder
from tercet.training.preflight.checks import counted, ready
from tercet.training.runner import Runner
from tests.data_pipelines.listed import write_csv
from tests.training.tiny import MODEL, recipe

Calls = Counter[tuple[str, str]]


def counting(calls: Calls, name: str, function: Callable[..., Any], what: Callable[[Any], Any]) -> Callable[..., Any]:
    def counted(first: Any, *rest: Any, **options: Any) -> Any:
        calls[name, str(what(first))] += 1
        return function(first, *rest, **options)

    return counted


def openings(world: World, values: dict[str, Any]) -> Calls:
    """How often this rank lists, looks into and opens each source while a run begins, trains and is evaluated."""
    calls: Calls = Counter()
    table: Callable[[Any], Any] = lambda pieces: Path(pieces[0].path).name  # noqa: E731
    folder: Callable[[Any], Any] = lambda shards: Path(shards[0]).parent.name  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        for place, name, what in (
            (listing, "find_shards", str), (listing, "find_pieces", str),
            (opening, "open_found", folder), (opening, "open_manifest_source", table),
            (ManifestFile, "open", lambda piece: piece.path),
        ):  # fmt: skip
            patch.setattr(place, name, counting(calls, name, getattr(place, name), what))
        sources = OpenedSources()
        config = counted(ready(RunConfig.model_validate(values), sources), world, sources)
        with open_folder(config, world) as out:
            Runner(config, out, world, sources).finish()
    return calls


def test_each_source_of_a_run_is_opened_once(world_folder: Path, tmp_path: Path) -> None:
    """Shards, a table and shards in two parts each, two stages, several evaluations, and shortcuts."""
    for row in range(40):
        Image.new("RGB", (32, 32), (6 * row, 0, 0)).save(tmp_path / f"{row}.jpg")
    table = str(write_csv(tmp_path / "t.csv", [{"image": f"{row}.jpg", "caption": f"of {row}"} for row in range(40)]))
    data = {
        "train": {
            "shards": str(world_folder / "train"),
            "table": {"source": table, "part": [0.4, 1]},
            "parts": {"source": str(world_folder / "val"), "part": [0.4, 1]},
        },
        "val": {
            "table": {"source": table, "part": [0, 0.4]},
            "parts": {"source": str(world_folder / "val"), "part": [0, 0.4]},
        },
        "crop": None, "workers": 0,
    }  # fmt: skip
    split = RunConfig.model_validate(recipe(world_folder, tmp_path, data=data)).data
    open_split(split, split.train["table"])  # what is indexed before is only mapped
    values = recipe(
        world_folder, tmp_path / "run", data=data, pairs={"image-text": 1.0}, epochs=0.5,
        model={name: part for name, part in MODEL.items() if name != "audio"},
        stages=[{"name": name, "steps": 0.5, "set": {}} for name in ("first", "second")],
        eval={"every": 1, "shortcuts": 16, "report": False},
    )  # fmt: skip
    assert on_ranks(openings, 2, values) == 2 * [
        {
            ("find_shards", str(world_folder / "train")): 1, ("find_shards", str(world_folder / "val")): 1,
            ("open_found", "train"): 1, ("open_found", "val"): 1,
            ("find_pieces", table): 1, ("open", table): 1, ("open_manifest_source", "t.csv"): 2,
        }
    ]  # fmt: skip
