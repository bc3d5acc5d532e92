"""Which of the nearest candidates of a sample become its negatives. The rules are pure functions.

They are those of `mine_hard_negatives` of sentence-transformers; `relative_margin` is TopK-PercPos of NV-Retriever
(Moreira et al., 2024), and `range_min` with `range_max` is the band of SciNCL (Ostendorff et al., 2022). Unlike there,
`range_min` counts ranks among all candidates, before other rules drop some.

Shape letters: q samples, k candidates of each, K negatives of each.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.seeding import uniforms
from tercet.training.mining.config import MiningConfig
from tercet.training.mining.equal import Ids
from tercet.training.mining.nearest import NONE

Scores = NDArray[np.float32]
Dropped = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """The nearest candidates of some samples, best first, and the score of each sample's positive: NaN without one."""

    id_q: Ids
    id_qk: Ids
    score_qk: Scores
    positive_q: Scores

    @property
    def exists_qk(self) -> Dropped:
        exists_qk: Dropped = self.id_qk != NONE
        return exists_qk


@dataclass(frozen=True)
class Negatives:
    """The negatives of some samples, best first: their ids, or -1, and their scores, or minus infinity."""

    id_qK: Ids
    score_qK: Scores
    dropped: Mapping[str, int]  # candidates by the first rule that drops them
    spare: int  # candidates that no rule drops, and that are not needed


def _range_min(candidates: Candidates, value: float) -> Dropped:
    """The place of a candidate is its rank."""
    return np.broadcast_to(np.arange(candidates.id_qk.shape[1]) < value, candidates.id_qk.shape)


def _max_score(candidates: Candidates, value: float) -> Dropped:
    return candidates.score_qk > value


def _min_score(candidates: Candidates, value: float) -> Dropped:
    return candidates.score_qk < value


def _absolute_margin(candidates: Candidates, value: float) -> Dropped:
    return candidates.score_qk > candidates.positive_q[:, None] - value


def _relative_margin(candidates: Candidates, value: float) -> Dropped:
    """The share of the positive's size: also a negative positive lies above what is kept."""
    positive_q = candidates.positive_q
    return candidates.score_qk > (positive_q - np.abs(positive_q) * value)[:, None]


RULES: dict[str, Callable[[Candidates, float], Dropped]] = {  # by option, in the order in which they apply
    "range_min": _range_min,
    "max_score": _max_score,
    "min_score": _min_score,
    "absolute_margin": _absolute_margin,
    "relative_margin": _relative_margin,
}


def choose(candidates: Candidates, config: MiningConfig) -> Negatives:
    """Applies the rules of a config, and takes the best of what is left, or random ones."""
    kept_qk, dropped = candidates.exists_qk, Counter[str]()
    for name, rule in RULES.items():
        value = getattr(config, name)
        if value is not None:
            drops_qk = kept_qk & rule(candidates, value)
            dropped[name] = int(np.count_nonzero(drops_qk))
            kept_qk = kept_qk & ~drops_qk
    chosen_qk = kept_qk & (_order(candidates, kept_qk, config) < config.num_negatives)
    first_qK = np.argsort(~chosen_qk, axis=1, kind="stable")[:, : config.num_negatives]
    there_qK = np.take_along_axis(chosen_qk, first_qK, axis=1)
    id_qK = np.where(there_qK, np.take_along_axis(candidates.id_qk, first_qK, axis=1), NONE)
    score_qK = np.where(there_qK, np.take_along_axis(candidates.score_qk, first_qK, axis=1), np.float32(-np.inf))
    return Negatives(id_qK, score_qK, dropped, int(np.count_nonzero(kept_qk) - np.count_nonzero(chosen_qk)))


def _order(candidates: Candidates, kept_qk: Dropped, config: MiningConfig) -> Ids:
    """The place of each kept candidate in the order in which they are taken."""
    if config.sampling_strategy == "top":
        return np.cumsum(kept_qk, axis=1) - 1
    draw_qk = uniforms("mining", config.seed, 0, candidates.id_q, kept_qk.shape[1])
    return np.argsort(np.argsort(np.where(kept_qk, draw_qk, 2.0), axis=1, kind="stable"), axis=1)
