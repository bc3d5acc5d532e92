"""Samples with captions, pictures and sounds, and batches with further fields of them."""

import json
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.fields import FieldConfig, FieldSpec, further_fields
from tercet.data_pipelines.sample import AudioIntake, Batch, Field, ImageIntake, Intake, TextIntake
from tercet.data_pipelines.shards.read import Shards, open_shards

ITEMS = 24
SIDE = 40


def tokenize(captions: Sequence[str]) -> torch.Tensor:
    return torch.tensor([list(caption.encode().ljust(16)[:16]) for caption in captions])


INTAKES: dict[str, Intake] = {
    "image": ImageIntake((16, 16)),
    "audio": AudioIntake(8000, 0.02),
    "text": TextIntake(tokenize),
}
FIELDS = {
    "text.negative": {"from": "json.negatives", "rows": 3},
    "text.rewrite": {"from": "json.deep.rewrites"},
    "text.more": {"from": "text", "rows": 2},
    "text.again": {"from": "text", "same": True},
    "text.wrong": {"from": "rules", "rules": ["swap_nouns", "shuffle_trigrams"], "rows": 2},
    "text.list": {"from": "json.graded", "rows": 3, "number": "grade"},
    "image.local": {"from": "image", "rows": 2, "crop": [0.05, 0.2], "size": 8},
    "text.edited": {"from": "text", "same": True, "rows": 3, "edit": {"swap": 0.5, "delete": 0.5}},
    "image.strong": {"from": "image", "augment": {"solarise": 1.0, "flip": 0.5}},
    "audio.other": {"from": "audio", "rows": 2},
}
FURTHER: dict[str, FieldSpec] = further_fields(
    FIELDS, {name: FieldConfig.model_validate(values) for name, values in FIELDS.items()}, INTAKES
)


def negatives(item: int) -> list[str]:
    return [f"not {n} of {item}" for n in range(item % 6)]


def ramp(item: int) -> bytes:
    """Red grows along x and green along y, which shows the place of a crop; blue encodes the item."""
    steps = np.arange(SIDE, dtype=np.uint8) * 6
    red, green = np.meshgrid(steps, steps)
    pixels = np.stack([red, green, np.full_like(red, item)], axis=2)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shards(pack: Callable[..., Path], sound: Callable[..., bytes]) -> Shards:
    """Every sample has 0 to 5 wrong captions; every third has no rewrite, every fourth no picture."""

    def item(i: int) -> dict[str, Any]:
        wrong = [{"kind": "swap", "text": text} for text in negatives(i)]
        meta: dict[str, object] = {"negatives": wrong}
        if i % 3:
            meta["deep"] = {"rewrites": [f"again {i}", f"anew {i}"], "grade": i / 4}
        meta["scene"] = f"cat {i} on dog" if i % 2 else f"cat {i}"
        meta["graded"] = [{"text": f"grade {n} of {i}", "grade": n / 2} for n in range(i % 5)]
        files = {"txt": f"one {i}\ntwo {i}\nthree {i}", "json": json.dumps(meta).encode()}
        files["flac"] = sound(np.arange(400) / 800 + i / 1000, 8000)
        return {"__key__": f"{i:02d}", **files, **({"png": ramp(i)} if i % 4 else {})}

    items = [item(i) for i in range(ITEMS)]
    return open_shards([str(pack("0.tar", items[:10])), str(pack("1.tar", items[10:]))])


def batches(shards: Shards, count: int, **options: Any) -> list[Batch]:
    data: dict[str, Any] = {"train": "here", "streams": 4, "window": 6, "workers": 0, "crop": (0.5, 1.0)}
    data |= {name: options.pop(name) for name in list(options) if name in DataConfig.model_fields}
    config = DataConfig.model_validate(data)
    loader = Loader(config, {"train": shards}, INTAKES, 8, seed=5, further=FURTHER, **options)
    return list(islice(loader, count))


def words(field: Field, item: int) -> list[str]:
    return [bytes(row.tolist()).decode().strip() for row in field.values[field.item == item]]
