"""Shortcut baselines: how well retrieval works without training a network, on the same items as the model's.

A dataset may have shortcuts: if all boats are on blue water, the colours of a picture are enough to find its caption.
Ridge regression, fitted on training items, predicts one modality's features from another's. The features are simple
ones, such as colour histograms and log-mel statistics, or the embeddings of the towers as they were before training.
If a trained model is not above both baselines, the task is too easy to show what it has learned, or training failed.

The prediction comes with an error for each feature. A pair scores by how much more likely the prediction makes the
answer, with Gaussian errors: a feature that cannot be predicted does not count. Such scores are the same in both
directions, so that the regression that explains more serves both. Errors are those of leaving each training item out.
The penalty is the one that explains most of those: nothing is chosen on the items of the evaluation.

Shape letters: N training items, Q queries, C candidates, P features of the query's modality, K of the candidates'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.ranking.ranking import rank
from tercet.eval.retrieval.retrieval import one_row_each, pair, shared_items

STRETCH = 32  # samples
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # relative to the variance of a feature
LEAST = 1e-6  # of an error, relative to the variance of its feature


def ridge_recall(train: EmbeddingTable, table: EmbeddingTable, candidates: int | None = None) -> dict[str, float]:
    """R@1 by direction, such as `image→text`. A direction is left out if no training item has both modalities."""
    recalls = {}
    for first, second in combinations(table.modalities, 2):
        if _together(train, first, second):
            ridges = _fit(train, first, second), _fit(train, second, first)
            best = max(ridges, key=lambda ridge: ridge.nats)
            for query, key in ((first, second), (second, first)):
                recalls[f"{query}→{key}"] = _recall(best, table, query, key, candidates)
    return recalls


def _together(table: EmbeddingTable, first: str, second: str) -> bool:
    both = table.items.keys() >= {first, second}
    return both and bool(torch.isin(table.items[first], table.items[second]).any())


def _fit(train: EmbeddingTable, source: str, target: str) -> "Ridge":
    """Fits on every item that has both modalities."""
    joined = one_row_each(train, (source, target), shared_items(train, source, target))
    x_NP, y_NK = (train.vectors[side][joined.rows[side]].double() for side in (source, target))
    return Ridge.fitted(source, x_NP, y_NK)


def _recall(ridge: "Ridge", table: EmbeddingTable, query: str, key: str, candidates: int | None) -> float:
    paired = pair(table, query, key, candidates)
    groups = table.groups if candidates is None else torch.arange(len(table.samples))
    rows_QD, rows_CD = (ridge.rows(side, table.vectors[side][paired.rows[side]].double()) for side in (query, key))
    own = groups[paired.items[query]], groups[paired.items[key]]
    place = rank(rows_QD, rows_CD, *own, world=table.world).rank
    return float((place == 1).double().mean())


@dataclass(frozen=True)
class Scale:
    """Centres features and scales them to variance one. A feature that never varies becomes zero."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Scale":
        deviation = features.std(dim=0, correction=0)
        return cls(features.mean(dim=0), deviation.masked_fill(deviation < 1e-9, torch.inf))

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation


@dataclass(frozen=True)
class Ridge:
    """A regression from the modality `source`.

    `error_K` holds mean squared leave-one-out errors, relative to the feature's variance and at most 1.
    """

    source: str
    x: Scale
    y: Scale
    weights_PK: Tensor
    error_K: Tensor

    @property
    def nats(self) -> float:
        """How much the prediction says about the answer."""
        return -float(self.error_K.log().sum()) / 2

    @classmethod
    def fitted(cls, source: str, x_NP: Tensor, y_NK: Tensor) -> "Ridge":
        """(xᵀx + λN)⁻¹ xᵀy with the best λ, all from one decomposition."""
        x, y = Scale.of(x_NP), Scale.of(y_NK)
        x_NP, y_NK = x(x_NP), y(y_NK)
        values_P, vectors_PP = torch.linalg.eigh(x_NP.T @ x_NP)
        turned_NP = x_NP @ vectors_PP
        answers_PK = turned_NP.T @ y_NK
        found = []
        for penalty in PENALTIES:
            shrunk_P = 1 / (values_P + penalty * len(x_NP))
            leverage_N = turned_NP.square() @ shrunk_P + 1 / len(x_NP)  # how far an item decides its own prediction
            residual_NK = y_NK - turned_NP @ (shrunk_P[:, None] * answers_PK)
            left_out_NK = residual_NK / (1 - leverage_N).clamp(min=LEAST)[:, None]
            error_K = left_out_NK.square().mean(dim=0).clamp(LEAST, 1).masked_fill(y.deviation.isinf(), 1)
            found.append(cls(source, x, y, vectors_PP @ (shrunk_P[:, None] * answers_PK), error_K))
        return max(found, key=lambda ridge: ridge.nats)

    def rows(self, modality: str, features: Tensor) -> Tensor:
        """Vectors whose inner product is the score of a pair, for the one modality or the other.

        log N(a; p, e) - log N(a; 0, 1), summed over the features of the answer a, the prediction p and the errors e.
        """
        if modality == self.source:
            predicted_QK = self.x(features) @ self.weights_PK
            own_Q = -(predicted_QK.square() / self.error_K).sum(dim=1) / 2
            return torch.cat([predicted_QK / self.error_K, own_Q[:, None], torch.ones_like(own_Q)[:, None]], dim=1)
        answers_CK = self.y(features)
        own_C = -answers_CK.square() @ (1 / self.error_K - 1) / 2
        return torch.cat([answers_CK, torch.ones_like(own_C)[:, None], own_C[:, None]], dim=1)


def spread(count: int, most: int) -> Sequence[int]:
    """About `most` of so many ids, in evenly spread stretches: sources may be sorted, and opening a shard may cost."""
    if count <= most:
        return range(count)
    length = min(STRETCH, most)
    stretches = most // length
    starts = (at * (count - length) // max(stretches - 1, 1) for at in range(stretches))
    return [id for start in starts for id in range(start, start + length)]
