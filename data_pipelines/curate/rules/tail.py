"""MetaCLIP's mathematics of balance (Xu et al. 2024; for many languages: Chuang et al. 2025).

Shape letters: E entries of a language, n captions, M matches of all captions.
"""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def entry_probability(count_E: Counts, t: float) -> NDArray[np.float64]:
    """t / max(count, t): entries of the tail are always kept, those of the head are capped at t in expectation."""
    probability_E: NDArray[np.float64] = t / np.maximum(count_E, t)
    return probability_E


def keep_probability(
    entry_M: NDArray[np.int64], size_n: NDArray[np.int64], probability_E: NDArray[np.float64]
) -> NDArray[np.float64]:
    """1 - prod(1 - p) over the entries of each caption, 0 for one without any. `size_n`: matches of each caption."""
    kept_n = np.zeros(len(size_n))
    (some,) = np.nonzero(size_n)
    if len(some):
        first = (np.cumsum(size_n) - size_n)[some]
        kept_n[some] = 1 - np.multiply.reduceat(1 - probability_E[entry_M], first)
    return kept_n


def tail_share(count_E: Counts, t: float) -> float:
    """The share of all matches that belong to entries with fewer than t."""
    return float(count_E[count_E < t].sum() / max(count_E.sum(), 1))


def threshold_of(count_E: Counts, share: float) -> int:
    """The t of another language: the count at which the tail's share comes closest to this one."""
    ascending_E = np.sort(count_E)
    share_E = np.cumsum(ascending_E) / max(ascending_E.sum(), 1)
    return max(int(ascending_E[np.abs(share_E - share).argmin()]), 1)
