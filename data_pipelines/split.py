"""Splits a source by a hash of each sample's group, taken as a number from 0 to 1.

The hash depends only on the group. So all samples of a group are on the same side of a split, in any source, and they
stay there when samples are added. A sample without a group is hashed by its own identity.

Shape letters: N samples.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tercet.data_pipelines.seeding import FRACTION, keys

Part = tuple[float, float]
Marks = NDArray[np.uint64]


def marks(identity_N: ArrayLike, group_N: NDArray[np.int64]) -> Marks:
    """The hash of each sample's group, or of the sample's identity if the group is negative."""
    alone_N = keys("alone", 0, 0, np.asarray(identity_N, dtype=np.uint64))
    return np.where(group_N < 0, alone_N, keys("group", 0, 0, group_N))


def in_part(mark_N: Marks, part: Part) -> NDArray[np.bool_]:
    share_N = (mark_N >> np.uint64(11)) * FRACTION
    inside_N: NDArray[np.bool_] = (part[0] <= share_N) & (share_N < part[1])
    return inside_N
