"""The loss of one pair, given the pairs that were chosen before it.

The pair i has vectors x_i and y_i of two fields. Its logits are u_ij = s⟨x_i, y_j⟩ + b, and S is the set of chosen
pairs. `reduce` makes two sums over S without i: `row` over u_ij, and `column` over u_ji. `given` returns the loss of
the pair from them and its own logit u_ii, so a score costs no more when S grows.

No exponential of a raw logit occurs: with r the log-sum-exp of a row, the softmax loss is log(exp(r) + exp(u_ii)) −
u_ii = softplus(r − u_ii).

Shapes: n samples of this rank, A anchors and K keys of one tile.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

Kind = Literal["softmax", "sigmoid"]


class PairLoss(ABC):
    """A loss of pairs that can be computed from two sums over the chosen pairs."""

    empty: ClassVar[float]  # the sum over no pair

    @abstractmethod
    def reduce(self, logits_AK: Tensor, open_AK: Tensor) -> Tensor:
        """The sum of each row over the keys that the mask `open_AK` marks."""

    @abstractmethod
    def merge(self, one_n: Tensor, other_n: Tensor) -> Tensor:
        """The sum over two disjoint sets of pairs."""

    @abstractmethod
    def given(self, positive_n: Tensor, row_n: Tensor, column_n: Tensor, scale: float) -> Tensor:
        """The loss of each pair."""

    def member(self, positive_n: Tensor, row_n: Tensor, column_n: Tensor, scale: float) -> Tensor:
        """The part of each pair in the loss of a whole set, from the sums over the others of the set."""
        return self.given(positive_n, row_n, column_n, scale)

    def alone(self, positive_n: Tensor, scale: float) -> Tensor:
        """The score of each pair before any was chosen."""
        nothing_n = torch.full_like(positive_n, self.empty)
        return self.given(positive_n, nothing_n, nothing_n, scale)


class Softmax(PairLoss):
    """The mean cross-entropy of both directions, over the pair itself and the chosen pairs.

    Before any pair was chosen, it is zero for all. Then `alone` is the part of the loss that depends on the pair only,
    −u_ii.
    """

    empty: ClassVar[float] = -torch.inf

    def reduce(self, logits_AK: Tensor, open_AK: Tensor) -> Tensor:
        return logits_AK.masked_fill(~open_AK, -torch.inf).logsumexp(dim=1)

    def merge(self, one_n: Tensor, other_n: Tensor) -> Tensor:
        return torch.logaddexp(one_n, other_n)

    def given(self, positive_n: Tensor, row_n: Tensor, column_n: Tensor, scale: float) -> Tensor:
        return (softplus(row_n - positive_n) + softplus(column_n - positive_n)) / 2

    def alone(self, positive_n: Tensor, scale: float) -> Tensor:
        return -positive_n


class Sigmoid(PairLoss):
    """The binary cross-entropy of the pair and of all entries that it adds to the matrix: u_ij and u_ji for j in S.

    So the sum over a set of pairs, each given those before it, is the loss of the whole set.
    """

    empty: ClassVar[float] = 0.0

    def reduce(self, logits_AK: Tensor, open_AK: Tensor) -> Tensor:
        return softplus(logits_AK).masked_fill(~open_AK, 0.0).sum(dim=1)

    def merge(self, one_n: Tensor, other_n: Tensor) -> Tensor:
        return one_n + other_n

    def given(self, positive_n: Tensor, row_n: Tensor, column_n: Tensor, scale: float) -> Tensor:
        return softplus(-positive_n) + row_n + column_n

    def member(self, positive_n: Tensor, row_n: Tensor, column_n: Tensor, scale: float) -> Tensor:
        return softplus(-positive_n) + (row_n + column_n) / 2  # each entry belongs to two pairs


class SoftmaxGradient(Softmax):
    """An upper bound of the norm of the gradient of the softmax loss by x_i and y_i.

    With P the softmax of row i and Q that of column i, the gradient by x_i is s/2 · (Σ_j P_ij y_j − y_i − (1 − Q_ii)
    y_i). All vectors have length 1 at most, and the probabilities other than P_ii add up to 1 − P_ii, so its norm is at
    most s/2 · (2(1 − P_ii) + (1 − Q_ii)). The same holds for y_i with P and Q exchanged. The sum is 3s/2 · ((1 − P_ii)
    + (1 − Q_ii)). Katharopoulos and Fleuret (2018) choose samples by such a bound.
    """

    def given(self, positive_n: Tensor, row_n: Tensor, column_n: Tensor, scale: float) -> Tensor:
        return 1.5 * scale * (torch.sigmoid(row_n - positive_n) + torch.sigmoid(column_n - positive_n))


class SigmoidGradient(Sigmoid):
    """An upper bound of the norm of the gradient of the sigmoid loss by x_i and y_i.

    The gradient by x_i is s · (Σ_j σ(u_ij) y_j − σ(−u_ii) y_i), whose norm is at most s · (Σ_j σ(u_ij) + σ(−u_ii)), and
    likewise that by y_i. The bound is their sum.
    """

    def reduce(self, logits_AK: Tensor, open_AK: Tensor) -> Tensor:
        return torch.sigmoid(logits_AK).masked_fill(~open_AK, 0.0).sum(dim=1)

    def given(self, positive_n: Tensor, row_n: Tensor, column_n: Tensor, scale: float) -> Tensor:
        return scale * (2 * torch.sigmoid(-positive_n) + row_n + column_n)

    def member(self, positive_n: Tensor, row_n: Tensor, column_n: Tensor, scale: float) -> Tensor:
        return self.given(positive_n, row_n, column_n, scale)


def softplus(values: Tensor) -> Tensor:
    """log(1 + exp(v)), also where torch's own would return v."""
    return torch.logaddexp(values, torch.zeros_like(values))
