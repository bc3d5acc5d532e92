"""What a call of mining found: the scores of positives and negatives, and how many candidates each rule dropped."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from tercet.training.mining.nearest import NONE
from tercet.training.mining.rules import Candidates, Negatives

QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}


@dataclass(frozen=True)
class Spread:
    """How scores are distributed. Without any, only the count."""

    count: int
    mean: float | None = None
    std: float | None = None
    quantiles: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, score_n: NDArray[np.float32]) -> "Spread":
        if not len(score_n):
            return cls(0)
        found = np.quantile(score_n, list(QUANTILES.values())).tolist()
        mean, std = float(np.mean(score_n, dtype=np.float64)), float(np.std(score_n, dtype=np.float64))
        return cls(len(score_n), mean, std, dict(zip(QUANTILES, found, strict=True)))


@dataclass(frozen=True)
class Described:
    """A source, and which of its modalities are compared."""

    name: str
    fingerprint: str
    query: str
    to: str

    def to_json(self) -> dict[str, str]:
        return {"source": self.name, "fingerprint": self.fingerprint, "from": self.query, "to": self.to}


@dataclass(frozen=True)
class Mined:
    """The result for one source. `candidates`: how many were compared, why others are no negatives, and the negatives;
    the reasons and the negatives add up to those that were compared."""

    about: Described
    samples: int
    short: int  # samples with fewer negatives than asked for
    empty: int  # samples without any
    candidates: dict[str, int]
    scores: dict[str, Spread]

    def to_json(self) -> dict[str, object]:
        found = asdict(self)
        del found["about"]
        return {**self.about.to_json(), **found}


class Tally:
    """Adds up the negatives of each piece."""

    def __init__(self) -> None:
        self._dropped = Counter[str]()
        self._seen = self._samples = self._spare = self._short = self._empty = 0
        self._scores: dict[str, list[NDArray[np.float32]]] = {"positive": [], "negative": [], "difference": []}

    def add(self, candidates: Candidates, negatives: Negatives) -> None:
        there_qK = negatives.id_qK != NONE
        count_q = np.count_nonzero(there_qK, axis=1)
        self._samples += len(count_q)
        self._short += int(np.count_nonzero(count_q < there_qK.shape[1]))
        self._empty += int(np.count_nonzero(count_q == 0))
        self._seen += int(np.count_nonzero(candidates.exists_qk))
        self._dropped.update(negatives.dropped)
        self._spare += negatives.spare
        gap_qK = candidates.positive_q[:, None] - negatives.score_qK
        self._scores["positive"].append(candidates.positive_q[~np.isnan(candidates.positive_q)])
        self._scores["negative"].append(negatives.score_qK[there_qK])
        self._scores["difference"].append(gap_qK[there_qK & ~np.isnan(gap_qK)])

    def mined(self, about: Described, counts: Mapping[str, int]) -> Mined:
        none = np.empty(0, np.float32)
        scores = {each: Spread.of(np.concatenate([none, *parts])) for each, parts in self._scores.items()}
        candidates = dict(self._reasons(counts, scores["negative"].count))
        return Mined(about, self._samples, self._short, self._empty, candidates, scores)

    def _reasons(self, counts: Mapping[str, int], negatives: int) -> Iterator[tuple[str, int]]:
        """The candidates that were compared, those that each reason leaves out, and the negatives."""
        equal = {f"equal {name.partition('.')[2]}": count for name, count in counts.items() if name != "compared"}
        yield "compared", counts["compared"]
        yield from equal.items()
        yield "range_max", counts["compared"] - sum(equal.values()) - self._seen
        yield from self._dropped.items()
        yield "num_negatives", self._spare
        yield "negatives", negatives
