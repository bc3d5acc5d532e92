"""From tar files to batches of 224 px, compared with open_clip_train and with the JPEG decoder alone.

The peer is `get_wds_dataset` of open_clip_train with its image transforms and tokenizer. All its stages are the same,
except for a smaller shuffle buffer, which lets it start sooner. Its batches are normalised floats; tercet's are bytes,
which the model normalises. The decoder runs with the resampling on files in memory, in as many processes.
"""

from collections.abc import Generator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import open_clip
import webdataset

from tercet.benchmarks.loader.decoder_ceiling import Bare, bare_pace
from tercet.benchmarks.loader.pace import Side, pace, paces, ratio
from tercet.benchmarks.loader.shards import PER_SHARD, SHARDS, picture_files, picture_shards
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import ImageIntake, Intake, TextIntake
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.workers.pool import worker_pool

PIXELS, BATCH, WORKERS = 224, 64, 2
MODEL = "ViT-B-32"
COUNTED = {256: 24, 512: 16}  # batches in a round, by the side of the pictures
FEWEST = 8  # batches in a round of larger pictures
SHUFFLED = 64

PICTURES: dict[str, Intake] = {"image": ImageIntake((PIXELS, PIXELS))}

Kind = Literal["process", "thread"]


def picture_rows(folder: Path, side: int, rounds: int) -> list[BenchRow]:
    """Rows that compare tercet with the peer, tercet with the decoder alone, and threads with processes."""
    paths, batches = picture_shards(folder, side), COUNTED.get(side, FEWEST)
    with ExitStack() as stack:
        pool, work = stack.enter_context(worker_pool("process", WORKERS, Bare(picture_files(side), PIXELS)))
        assert pool is not None
        measured = paces(
            {
                "bare": partial(bare_pace, pool, work, WORKERS, batches * BATCH),
                "pictures alone": partial(pace, ours(paths, "process", PICTURES), batches),
                "processes": partial(pace, ours(paths, "process", {**PICTURES, **captions()}), batches),
                "peer": partial(pace, theirs(paths), batches),
                "threads": partial(pace, ours(paths, "thread", {**PICTURES, **captions()}), batches),
            },
            rounds,
        )
    sizes = {"side": side, "pixels": PIXELS, "batch": BATCH, "workers": WORKERS, "samples": SHARDS * PER_SHARD}

    def row(name: str, one: str, other: str, peer_name: str) -> BenchRow:
        mine, peer = measured[one], measured[other]
        times = {"ratios": [round(a / b, 3) for a, b in zip(mine, peer, strict=True)]}
        shape = {**sizes, "rounds": rounds}
        return BenchRow(
            name, median(mine), median(peer), peer_name, ratio(mine, peer), unit="samples/s", sizes=shape, beyond=times
        )

    return [
        row(f"pictures of {side} px", "processes", "peer", "open_clip_train"),
        row(f"share of bare decoding, {side} px", "pictures alone", "bare", "decoder alone"),
        row(f"threads, {side} px", "threads", "processes", "our processes"),
    ]


def captions() -> dict[str, Intake]:
    return {"text": TextIntake(open_clip.get_tokenizer(MODEL))}


def ours(paths: list[str], kind: Kind, intakes: Mapping[str, Intake]) -> Side:
    shards = open_shards(paths)
    data = DataConfig.model_validate({"train": paths, "worker": kind, "workers": WORKERS})

    def sizes() -> Generator[int, None, None]:
        for batch in Loader(data, {"train": shards}, intakes, BATCH, seed=0):
            yield len(batch.fields["image"])

    return sizes


def theirs(paths: list[str]) -> Side:
    tokenizer, transform = open_clip.get_tokenizer(MODEL), open_clip.image_transform((PIXELS, PIXELS), is_train=True)
    pipeline = webdataset.DataPipeline(
        webdataset.ResampledShards(paths),
        webdataset.tarfile_to_samples(),
        webdataset.shuffle(SHUFFLED, initial=SHUFFLED),
        webdataset.select(lambda sample: "txt" in sample and "jpg" in sample),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
        webdataset.map_dict(image=transform, text=lambda text: tokenizer(text)[0]),
        webdataset.to_tuple("image", "text"),
        webdataset.batched(BATCH, partial=False),
    )

    def sizes() -> Generator[int, None, None]:
        for images, _ in webdataset.WebLoader(pipeline, batch_size=None, shuffle=False, num_workers=WORKERS):
            yield len(images)

    return sizes
