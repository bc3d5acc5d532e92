"""Pictures with hidden squares, as the student of masked prediction sees them (iBOT, Zhou et al. 2022).

A row is the picture of the sample itself, after its crop and its augmentation, with a share of its squares in grey. The
view of the sample decides which ones, so they are the same on any number of processes. A fourth channel, which says
where to look, does not change.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.transforms.config import HideConfig

GREY = 128


def with_hidden(sample: Sample, key: int, fields: Mapping[str, HideConfig]) -> Sample:
    """Adds these fields to a sample that has a picture. `key`: that of its view."""
    picture = sample.media.get("image")
    if picture is None or not fields:
        return sample
    rows = {name: (hidden(picture, hide, keyed(f"hidden {name}", key)),) for name, hide in fields.items()}
    return replace(sample, further={**sample.further, **rows})


def hidden(picture: NDArray[np.uint8], hide: HideConfig, dice: np.random.Generator) -> NDArray[np.uint8]:
    """A copy with a share of its squares in grey. Squares at the lower and the right edge may be cut."""
    rows, columns = (-(-side // hide.side) for side in picture.shape[:2])
    grid = np.zeros(rows * columns, dtype=bool)
    grid[dice.permutation(rows * columns)[: round(hide.share * rows * columns)]] = True
    mask = grid.reshape(rows, columns).repeat(hide.side, axis=0).repeat(hide.side, axis=1)
    copy: NDArray[np.uint8] = picture.copy()
    copy[mask[: picture.shape[0], : picture.shape[1]], :3] = GREY
    return copy
