"""Small shards and media files, written by webdataset and by the writers of the codecs."""

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from numpy.typing import NDArray
from PIL import Image

Pack = Callable[[str, Iterable[Mapping[str, object]]], Path]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Writes samples (`__key__` and files by extension) as one shard."""

    def write(name: str, samples: Iterable[Mapping[str, object]]) -> Path:
        with webdataset.TarWriter(str(tmp_path / name)) as shard:
            for sample in samples:
                shard.write(dict(sample))
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A picture file of random smooth pixels, which depend on the seed."""

    def encode(seed: int, size: tuple[int, int] = (20, 16), format: str = "png", mode: str = "RGB") -> bytes:
        channels = len(Image.new(mode, (1, 1)).getbands())
        pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, channels), dtype=np.uint8).squeeze()
        file = BytesIO()
        Image.fromarray(pixels, mode).resize(size).save(file, format)
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def sound() -> Callable[..., bytes]:
    def encode(wave: NDArray[np.float64], rate: int, format: str = "FLAC", subtype: str | None = None) -> bytes:
        file = BytesIO()
        soundfile.write(file, wave, rate, format=format, subtype=subtype)
        return file.getvalue()

    return encode
