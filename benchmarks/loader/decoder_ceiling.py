"""The decoder and the resampling alone: no shards, headers, crops drawn, captions or batches."""

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

CROP = 0.975  # of the shorter side: half way through the areas of a usual training crop
START = 24  # files that each worker decodes before time is taken


@dataclass(frozen=True)
class Bare:
    """Decodes files one after another, each at the size at which the loader decodes it."""

    files: Sequence[bytes]
    pixels: int

    def __call__(self, count: int) -> int:
        for data in islice(cycle(self.files), count):
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            room = CROP * min(height, width) / self.pixels / SPARE
            reduction = max((one for one in (2, 4, 8) if one <= room), default=1)
            decoded_HWC = simplejpeg.decode_jpeg(
                data, "RGB", min_height=-(-height // reduction), min_width=-(-width // reduction), min_factor=reduction
            )
            edge = int(CROP * min(decoded_HWC.shape[:2]))
            resized(decoded_HWC, (0, 0, edge, edge), np.empty((self.pixels, self.pixels, 3), np.uint8), "bicubic")
        return count


def bare_pace(pool: Executor, work: Callable[..., Any], workers: int, samples: int) -> float:
    """Samples a second of all workers, each having begun before the time is taken."""
    share = samples // workers
    list(pool.map(work, [START] * workers))
    start = time.perf_counter()
    counted: int = sum(pool.map(work, [share] * workers))
    return counted / (time.perf_counter() - start)
