"""The speed of decoding and resampling alone, without reading shards, random crops, captions or batches."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import simplejpeg

from tercet.data_pipelines.decode.image import SPARE
from tercet.data_pipelines.decode.resize import resized

CROP = 0.975  # share of the shorter side: that of an average training crop, with areas between 0.9 and 1
START = 24  # files that each worker decodes before the measurement


@dataclass(frozen=True)
class Bare:
    """Decodes files one by one, each at the reduced size that the loader would choose."""

    files: Sequence[bytes]
    pixels: int

    def __call__(self, count: int) -> int:
        for data in islice(cycle(self.files), count):
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            largest = CROP * min(height, width) / self.pixels / SPARE
            reduction = max((factor for factor in (2, 4, 8) if factor <= largest), default=1)
            decoded_HWC = simplejpeg.decode_jpeg(
                data, "RGB", min_height=-(-height // reduction), min_width=-(-width // reduction), min_factor=reduction
            )
            edge = int(CROP * min(decoded_HWC.shape[:2]))
            resized(decoded_HWC, (0, 0, edge, edge), np.empty((self.pixels, self.pixels, 3), np.uint8), "bicubic")
        return count


def bare_pace(pool: Executor, work: Callable[..., Any], workers: int, samples: int) -> float:
    """Samples per second of all workers together. All workers start before the measurement."""
    share = samples // workers
    list(pool.map(work, [START] * workers))
    start = time.perf_counter()
    counted: int = sum(pool.map(work, [share] * workers))
    return counted / (time.perf_counter() - start)
