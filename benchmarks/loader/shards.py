"""Shards for the benchmarks, written by webdataset: photographs of a given size, sounds of 10 s, and random bytes."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import soundfile
import webdataset
from PIL import Image

from tercet.errors import UserError

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "ihc", "motorcycle_left", "retina", "rocket")
QUALITIES = (90, 92, 95)
SHARDS, PER_SHARD = 4, 96
SMALL_SHARDS, SMALL_PER_SHARD, SMALL_BYTES = 2, 2000, 28_000
RATE, SECONDS = 44_100, 10

Files = Mapping[str, bytes | str]


def picture_shards(folder: Path, side: int) -> list[str]:
    return _written(folder, SHARDS, PER_SHARD, ({"jpg": data} for data in cycle(picture_files(side))))


@lru_cache
def picture_files(side: int) -> tuple[bytes, ...]:
    return tuple(jpeg(photograph(name), side, quality) for quality in QUALITIES for name in PHOTOGRAPHS)


def small_shards(folder: Path) -> list[str]:
    dice = np.random.default_rng(0)
    return _written(folder, SMALL_SHARDS, SMALL_PER_SHARD, ({"jpg": dice.bytes(SMALL_BYTES)} for _ in cycle([0])))


def sound_shards(folder: Path) -> list[str]:
    files = [flac(seed) for seed in range(12)]
    return _written(folder, SHARDS, PER_SHARD, ({"flac": data} for data in cycle(files)))


@lru_cache
def photograph(name: str) -> Image.Image:
    try:
        import skimage
    except ImportError as error:
        raise UserError("this benchmark needs the pictures of scikit-image; pip install scikit-image") from error
    return Image.open(next((Path(skimage.__file__).parent / "data").glob(f"{name}.*"))).convert("RGB")


def jpeg(picture: Image.Image, side: int, quality: int) -> bytes:
    scale, file = side / min(picture.size), BytesIO()
    size = round(picture.width * scale), round(picture.height * scale)
    picture.resize(size, Image.Resampling.LANCZOS).save(file, "jpeg", quality=quality)  # 4:2:0, as Pillow does
    return file.getvalue()


def flac(seed: int) -> bytes:
    """Ten seconds of harmonics that fade in and out, with soft noise."""
    dice, file = np.random.default_rng(seed), BytesIO()
    time_T = np.arange(RATE * SECONDS) / RATE
    pitch, pulse = dice.uniform(80, 400), dice.uniform(0.2, 3)
    partial_KT = [np.sin(2 * np.pi * pitch * k * time_T) / k for k in range(1, 12)]
    wave_T = 0.1 * np.sum(partial_KT, 0) * (1 + np.sin(2 * np.pi * pulse * time_T)) + dice.normal(0, 0.01, len(time_T))
    soundfile.write(file, np.clip(wave_T, -1, 1), RATE, format="FLAC")
    return file.getvalue()


def _written(folder: Path, shards: int, samples: int, files: Iterable[Files]) -> list[str]:
    folder.mkdir()
    paths, files = [str(folder / f"{shard:03d}.tar") for shard in range(shards)], iter(files)
    for path in paths:
        with webdataset.TarWriter(path) as writer:
            for i, each in enumerate(islice(files, samples)):
                writer.write({"__key__": f"{i:06d}", "txt": f"a photograph of thing number {i} in the light", **each})
    return paths
