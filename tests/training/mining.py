"""Small shards with samples that describe the same thing, its embeddings on a coarse grid, and naive mining.

Every coordinate is a multiple of 1/4, so all cosines are exact in any order of summation, and many of them are equal.
"""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zlib import crc32

import numpy as np
import torch
from PIL import Image

from tercet.data_pipelines import columns
from tercet.data_pipelines.columns import Column, read_column
from tercet.data_pipelines.config import DataConfig
from tercet.distributed import World
from tercet.eval.embedding import embed_data as room
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.embedding.store import Store, StoredPart
from tercet.training.mining.config import MiningConfig
from tercet.training.mining.mine import MiningTask, mine
from tercet.training.mining.mined import Mined
from tercet.training.mining.table import table_file
from tests.data_pipelines.tars import write_tar
from tests.eval.stored import tiny

SAMPLES, DIMS = 70, 16
embed_piece = room.embed_piece


@dataclass(frozen=True)
class Photo:
    """A sample: two captions, or one, the number of its picture, if it has one, and its album."""

    captions: tuple[str, ...]
    picture: int | None
    album: str | None


def photos() -> list[Photo]:
    """Pictures, captions and albums repeat; some samples have no picture, or no album."""
    draw = np.random.default_rng(7)
    rows = []
    for number in range(SAMPLES):
        second = (f"scene {draw.integers(25)}",) if number % 3 else ()
        picture = None if number % 11 == 5 else int(draw.integers(50))
        rows.append(Photo((f"Photo {draw.integers(60)}", *second), picture, f"a{number % 24}" if number % 4 else None))
    return rows


def written(folder: Path) -> Path:
    """Shards of the photos."""
    draw = np.random.default_rng(3)
    pictures = [draw.integers(256, size=(32, 32, 3), dtype=np.uint8) for _ in range(50)]
    for first in range(0, SAMPLES, 25):
        files = {}
        for number, row in enumerate(photos()[first : first + 25], first):
            if row.picture is not None:
                data = BytesIO()
                Image.fromarray(pictures[row.picture]).save(data, "PNG")
                files[f"{number}.png"] = data.getvalue()
            facts = {"text": row.captions} | ({"album": row.album} if row.album else {})
            files[f"{number}.json"] = json.dumps(facts).encode()
        write_tar(folder / f"{first:04d}.tar", files)
    return folder


def mined(shards: Path, out: Path, cache: Path, world: World | None = None, **options: Any) -> Mined:
    """Mines with embeddings on the grid, in pieces of 16 samples."""
    read_as = {"source": str(shards), "group": "json.album"}
    given = DataConfig.model_validate({"train": read_as, "val": read_as, "workers": 1})
    config = MiningConfig(**options)
    with (
        patch.object(room, "BATCH", 8),
        patch.object(room, "PIECE", 16),
        patch.object(room, "embed_piece", on_a_grid),
        patch.object(columns, "PIECE", 32),
        table_file(out / "negatives.jsonl", config) as file,
    ):
        task = MiningTask(tiny(), "photos", given, given.val["val"], config, cache)
        return mine(task, out, world or World(), file)


def on_a_grid(*arguments: Any) -> StoredPart:
    part = embed_piece(*arguments)
    table = part.table
    vectors = {}
    for name, items in table.items.items():
        seen: Counter[int] = Counter()
        rows = []
        for item in items.tolist():
            draw = np.random.default_rng([crc32(name.encode()), table.samples[item].id, seen[item]])
            rows.append(draw.integers(-1, 2, size=DIMS) / 4)
            seen[item] += 1
        vectors[name] = torch.tensor(np.array(rows), dtype=torch.float32)
    return replace(part, table=EmbeddingTable(vectors, table.items, table.samples))


def graph_of(out: Path) -> Column:
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return read_column(out, folder.name)


@dataclass
class Naive:
    """Negatives by loops over all pairs: of each sample the ids and scores, what its rules kept, and all counts."""

    found: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    kept: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    positives: dict[int, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def naive(cache: Path, config: MiningConfig, query: str, to: str) -> Naive:
    rows, result, held = photos(), Naive(), vectors_of(cache, query, to)
    first: dict[Any, int] = {}
    for id in sorted(held[to]):
        content = rows[id].picture if to == "image" else frozenset(map(str.lower, rows[id].captions))
        first.setdefault(content, id)
    for one, vectors in sorted(held[query].items()):
        near = []
        for other in sorted(first.values()):
            if other == one:
                continue
            result.counts["compared"] += 1
            if reason := same(rows[one], rows[other]):
                result.counts[f"equal {reason}"] += 1
            else:
                near.append((other, max(float(a @ b) for a in vectors for b in held[to][other])))
        near.sort(key=lambda each: (-each[1], each[0]))
        result.counts["range_max"] += len(near[config.depth :])
        positive = min((float(a @ b) for a in vectors for b in held[to].get(one, [])), default=None)
        kept = []
        for rank, (other, score) in enumerate(near[: config.depth]):
            if reason := dropped(config, rank, score, positive):
                result.counts[reason] += 1
            else:
                kept.append((other, score))
        result.kept[one], result.found[one] = kept, kept[: config.num_negatives]
        result.counts["num_negatives"] += len(kept) - len(result.found[one])
        result.counts["negatives"] += len(result.found[one])
        if positive is not None:
            result.positives[one] = positive
    return result


def vectors_of(cache: Path, *modalities: str) -> dict[str, dict[int, list[Any]]]:
    """The vectors of each sample by modality."""
    (folder,) = (cache / "embeddings").iterdir()
    table = Store(folder).table()
    return {name: _rows(table, name) for name in modalities}


def same(one: Photo, other: Photo) -> str | None:
    if one.album is not None and one.album == other.album:
        return "group"
    if {text.lower() for text in one.captions} & {text.lower() for text in other.captions}:
        return "text"
    return "image" if one.picture is not None and one.picture == other.picture else None


def dropped(config: MiningConfig, rank: int, score: float, positive: float | None) -> str | None:
    if rank < config.range_min:
        return "range_min"
    if config.max_score is not None and score > config.max_score:
        return "max_score"
    if config.min_score is not None and score < config.min_score:
        return "min_score"
    if positive is None:
        return None
    if config.absolute_margin is not None and score > positive - config.absolute_margin:
        return "absolute_margin"
    if config.relative_margin is not None and score > positive - abs(positive) * config.relative_margin:
        return "relative_margin"
    return None


def _rows(table: EmbeddingTable, modality: str) -> dict[int, list[Any]]:
    held: dict[int, list[Any]] = {}
    for row, item in zip(table.vectors[modality].numpy(), table.items[modality].tolist(), strict=True):
        held.setdefault(table.samples[item].id, []).append(row)
    return held
