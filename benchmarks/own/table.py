"""Compares training on a CSV of JPEG files with training on the same files in shards, both with tercet's loader."""

from collections.abc import Generator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from tercet.benchmarks.loader.pace import Side, pace, paces, ratio
from tercet.benchmarks.loader.pictures import BATCH, PICTURES, WORKERS, captions
from tercet.benchmarks.loader.shards import PER_SHARD, SHARDS, picture_files, picture_shards
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sources.open import open_split

SIDE, BATCHES = 256, 24


def table_row(folder: Path, rounds: int) -> BenchRow:
    table, shards = csv_of_pictures(folder / "photos"), picture_shards(folder / "shards", SIDE)
    sides = {"table": side_of(str(table)), "shards": side_of(shards)}
    measured = paces({name: partial(pace, side, BATCHES) for name, side in sides.items()}, rounds)
    mine, peer = measured.values()
    ratios = [round(one / other, 3) for one, other in zip(mine, peer, strict=True)]
    sizes = {"side": SIDE, "batch": BATCH, "workers": WORKERS, "samples": SHARDS * PER_SHARD, "rounds": rounds}
    name, unit = "training from a CSV", "samples/s"
    return BenchRow(
        name, median(mine), median(peer), "shards", ratio(mine, peer), unit=unit, sizes=sizes, beyond={"ratios": ratios}
    )


def csv_of_pictures(folder: Path) -> Path:
    """Writes the pictures and captions of the shards as files and a CSV."""
    folder.mkdir()
    lines = ["path,caption"]
    for index, data in enumerate(islice(cycle(picture_files(SIDE)), SHARDS * PER_SHARD)):
        (folder / f"{index:06d}.jpg").write_bytes(data)
        lines.append(f"{index:06d}.jpg,a photograph of thing number {index % PER_SHARD} in the light")
    table = folder / "photos.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def side_of(source: str | list[str]) -> Side:
    data = DataConfig.model_validate({"train": source, "workers": WORKERS})
    opened = open_split(data, data.train["train"])

    def sizes() -> Generator[int, None, None]:
        for batch in Loader(data, {"train": opened}, {**PICTURES, **captions()}, BATCH, seed=0):
            yield len(batch.fields["image"])

    return sizes
