"""A small set of shards with pictures, sounds and captions, some of them broken or planted, and its score tables."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile
from PIL import Image

from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.curate import score_group
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.shards.write import write_shard
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.open import open_split
from tercet.distributed import World

SAMPLES, PART, PIECE = 60, 16, 8
THINGS = ("dog", "cat", "boat", "tree", "drum")
Score = Callable[[ScoreTask, SplitConfig], ScoreGroup]


def png(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def wav(wave: np.ndarray, rate: int, format: str = "WAV", subtype: str | None = "FLOAT") -> bytes:
    file = BytesIO()
    soundfile.write(file, wave, rate, format=format, subtype=subtype)
    return file.getvalue()


def caption(number: int) -> str:
    odd = {
        3: "Buy now!!! www.shop.example 50% off",
        5: "IMG_20210304.jpg",
        7: "the the the dog dog",
        9: "Ein kleiner Hund läuft über die grüne Wiese und bellt laut",
        11: "鳥が空を飛んでいる。",
        13: "!?",
    }
    things = " and ".join(THINGS[(number + step) % len(THINGS)] for step in range(number % 3 + 1))
    return odd.get(number, f"a photo of a {things} no {number % 7}")


def sample(number: int) -> dict[str, bytes]:
    """Samples 20 and on hold no sound, every seventh no picture, and some files are broken."""
    draw = np.random.default_rng(number)
    files = {"txt": caption(number).encode(), "json": json.dumps({"other": f"another {number}"}).encode()}
    if number % 7:
        width, height = (64, 128, 256)[number % 3], (64, 128)[number % 2]
        pixels = draw.integers(256, size=(height, width, 3), dtype=np.uint8)
        files["png"] = png(pixels if number != 10 else np.full_like(pixels, 90))
    if number < 20:
        rate = (8000, 16000)[number % 2]
        wave = draw.uniform(-1, 1, (int(rate * (0.1 + 0.013 * number)), 1 + number % 2)) * 2 ** -(number % 5)
        wave[: len(wave) * number // 40] = 0
        files["wav"] = wav(np.clip(wave, -1, 1), rate)
    if number == 15:
        files["wav"] = wav(np.zeros((900, 1)), 8000)
    if number == 17:
        files["png"] = b"<html>"
    if number == 18:
        files["txt"] = b"\xff\xff"
    return files


def written(folder: Path, make: Callable[[int], Mapping[str, bytes]] = sample, samples: int = SAMPLES) -> Path:
    """Two shards."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"__key__": f"s{number:03d}", **make(number)} for number in range(samples)]
    write_shard(folder / "0.tar", rows[: samples // 2])
    write_shard(folder / "1.tar", rows[samples // 2 :])
    return folder


def opened(shards: Path, **options: Any) -> tuple[Source, SplitConfig]:
    data = DataConfig.model_validate({"train": {"source": str(shards), **options}})
    return open_split(data, data.train["train"]), data.train["train"]


def scored(score: Score, shards: Path, scores: Path, world: World | None = None, **options: Any) -> ScoreGroup:
    """Scores shards by small parts. The group has the name of the function."""
    with patch.object(score_group, "PART", PART), patch.object(score_group, "PIECE", PIECE):
        source, split = opened(shards, **options)
        table = ScoreTable.begin(scores, TableSource.of(source, str(shards)))
        return score(ScoreTask(table, "data", score.__name__, source, world or World()), split)


def on_rank(world: World, score: Score, shards: Path, scores: Path) -> None:
    scored(score, shards, scores, world)


def killed(score: Score, shards: Path, scores: Path, after: int) -> None:
    """Dies while it writes a piece or a part, after some that it has written."""
    replace = os.replace

    def replace_some(draft: Path, path: Path) -> None:
        nonlocal after
        after -= path.suffix == ".parquet"
        os.kill(os.getpid(), signal.SIGKILL) if after < 0 else replace(draft, path)

    with patch.object(os, "replace", replace_some):
        scored(score, shards, scores)


def rows(group: ScoreGroup) -> list[dict[str, Any]]:
    return [row for batch in group.batches("data") for row in batch.to_pylist()]
