"""The adjusted Rand index: how well two groupings of the same items agree (Hubert & Arabie 1985).

Of all pairs of items, A are together in one grouping, B in the other, and C in both. If each grouping were drawn at
random with groups of the same sizes, C would be AB / pairs on average:

    ARI = (C − AB / pairs) / ((A + B) / 2 − AB / pairs)

It is 1 for groupings that are equal up to the names of their groups, and 0 on average for unrelated ones.

Shapes: N items.
"""

import torch
from torch import Tensor

from tercet.errors import UserError


def adjusted_rand_index(one_N: Tensor, other_N: Tensor) -> float:
    """Of two labels for each item, which may be any whole numbers."""
    if one_N.shape != other_N.shape or one_N.ndim != 1:
        raise UserError(
            f"two groupings have labels of shape {list(one_N.shape)} and {list(other_N.shape)}; give one label for "
            "each item in both"
        )
    together_one, together_other = (pairs_within(label_N) for label_N in (one_N, other_N))
    both = pairs_within(torch.unique(torch.stack([one_N, other_N]), dim=1, return_inverse=True)[1])
    expected = together_one * together_other / max(pairs(len(one_N)), 1)
    largest = (together_one + together_other) / 2
    return 1.0 if largest == expected else (both - expected) / (largest - expected)


def pairs_within(label_N: Tensor) -> int:
    """How many pairs of items have the same label."""
    return sum(map(pairs, torch.unique(label_N, return_counts=True)[1].tolist()))


def pairs(items: int) -> int:
    return items * (items - 1) // 2
