"""Tables and folders of small pictures, and the batches that a loader makes from them."""

import csv
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import Batch, ImageIntake, Intake, TextIntake
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.open import open_split

Picture = Callable[..., bytes]


def tokenize(captions: Sequence[str]) -> torch.Tensor:
    return torch.tensor([list(caption.encode().ljust(24)[:24]) for caption in captions])


INTAKES: dict[str, Intake] = {"image": ImageIntake((12, 12)), "text": TextIntake(tokenize)}
DATA: dict[str, Any] = {"crop": (0.3, 1.0), "streams": 4, "window": 6, "workers": 0, "max_bad": 1.0}


def photos(folder: Path, picture: Picture, count: int) -> list[dict[str, str]]:
    """Pictures in folders, and the rows of a table about them."""
    rows = []
    for i in range(count):
        path = folder / f"fotos ü/{i % 3}/{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i, (40, 30), "jpeg"))
        caption = f"caption, {i}\nof it"
        rows.append({"path": str(path.relative_to(folder)), "caption": caption, "group": f"g{i // 2}", "score": str(i)})
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def opened(**train: Any) -> Source:
    data = config(**train)
    return open_split(data, data.train["train"])


def config(options: Mapping[str, Any] = DATA, **train: Any) -> DataConfig:
    return DataConfig.model_validate({**options, "train": train})


def loader(data: DataConfig, batch_size: int = 8, **options: Any) -> Loader:
    sources = {name: open_split(data, split) for name, split in data.train.items()}
    return Loader(data, sources, INTAKES, batch_size, seed=5, **options)


def rows_of(batches: Sequence[Batch]) -> list[tuple[object, ...]]:
    """Each item with its pixels and its caption, as plain numbers."""
    return [
        (int(batch.ids[i]), *(field.values[field.item == i].tolist() for _, field in batch))
        for batch in batches
        for i in range(len(batch))
    ]


def taken(loader: Loader, count: int) -> list[Batch]:
    return list(islice(loader, count))
