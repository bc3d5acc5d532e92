"""Statistics of an anchor over its keys. They are reduced tile by tile.

A statistic reduces `value`, a function of the logits, over the keys. `slope` is the derivative of `value` by the
logits. Values of masked keys do not count. Detach the part of a value that a paper treats as a constant weight: then
its slope is the derivative of the rest.

A log-sum-exp is in fp64, one number for each anchor. Its rounding would change all probabilities of the anchor by the
same factor, so that they add up to more or less than 1. Where rows are much alike, that is large beside the gradient.

Shapes: A anchors and K keys of one tile.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

Partial = tuple[Tensor, ...]  # what is kept of the tiles so far


class Statistic(ABC):
    """A reduction over the keys of a tile, which can be combined with that of other tiles."""

    @abstractmethod
    def masked(self, closed_AK: Tensor) -> "Statistic":
        """The same statistic without the masked keys."""

    @abstractmethod
    def reduce(self) -> Partial: ...

    @staticmethod
    @abstractmethod
    def merge(one: Partial, other: Partial) -> Partial: ...

    @staticmethod
    @abstractmethod
    def results(name: str, partial: Partial) -> dict[str, Tensor]:
        """The results over all keys, by name."""

    @abstractmethod
    def slopes(self, name: str, results: Mapping[str, Tensor], factor_A1: Tensor) -> Tensor | None:
        """The derivative of the result by each logit, times `factor`. `results` are columns `[A, 1]`. None means 0."""


@dataclass(frozen=True)
class LogSumExp(Statistic):
    """log Σ exp(value). −inf for an anchor without keys."""

    value: Tensor
    slope: Tensor | float = 1.0

    def masked(self, closed_AK: Tensor) -> "LogSumExp":
        return replace(self, value=self.value.masked_fill(closed_AK, -torch.inf))

    def reduce(self) -> Partial:
        return (log_sum_exp(self.value),)

    @staticmethod
    def merge(one: Partial, other: Partial) -> Partial:
        return (torch.logaddexp(one[0], other[0]),)

    @staticmethod
    def results(name: str, partial: Partial) -> dict[str, Tensor]:
        return {name: partial[0]}

    def slopes(self, name: str, results: Mapping[str, Tensor], factor_A1: Tensor) -> Tensor | None:
        return scaled(self.value, results[name], self.slope, factor_A1)


@dataclass(frozen=True)
class Mean(Statistic):
    """The mean of `value`, weighted by the softmax of `log_weight`, which is a constant. Also gives `NAME.lse`, the
    log-sum-exp of the weights. `value` must be finite at every key."""

    value: Tensor
    log_weight: Tensor
    slope: Tensor | float = 1.0

    def masked(self, closed_AK: Tensor) -> "Mean":
        return replace(self, log_weight=self.log_weight.masked_fill(closed_AK, -torch.inf))

    def reduce(self) -> Partial:
        lse_A = log_sum_exp(self.log_weight)
        weight_AK = (self.log_weight - finite(lse_A)[:, None].to(self.log_weight)).exp_()
        return lse_A, weight_AK.mul_(self.value).sum(dim=1)

    @staticmethod
    def merge(one: Partial, other: Partial) -> Partial:
        lse_A = torch.logaddexp(one[0], other[0])
        base_A = finite(lse_A)
        return lse_A, (one[0] - base_A).exp() * one[1] + (other[0] - base_A).exp() * other[1]

    @staticmethod
    def results(name: str, partial: Partial) -> dict[str, Tensor]:
        return {name: partial[1], f"{name}.lse": partial[0]}

    def slopes(self, name: str, results: Mapping[str, Tensor], factor_A1: Tensor) -> Tensor | None:
        return scaled(self.log_weight, results[f"{name}.lse"], self.slope, factor_A1)


@dataclass(frozen=True)
class Total(Statistic):
    """Σ function(logits). `derivative` is that of `function`."""

    logits: Tensor
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    closed_AK: Tensor | None = None

    def masked(self, closed_AK: Tensor) -> "Total":
        return replace(self, closed_AK=closed_AK)

    def reduce(self) -> Partial:
        return (self._open(self.function(self.logits)).sum(dim=1),)

    @staticmethod
    def merge(one: Partial, other: Partial) -> Partial:
        return (one[0] + other[0],)

    @staticmethod
    def results(name: str, partial: Partial) -> dict[str, Tensor]:
        return {name: partial[0]}

    def slopes(self, name: str, results: Mapping[str, Tensor], factor_A1: Tensor) -> Tensor | None:
        return self._open(self.derivative(self.logits)).mul_(factor_A1)

    def _open(self, values_AK: Tensor) -> Tensor:
        return values_AK if self.closed_AK is None else values_AK.masked_fill(self.closed_AK, 0.0)


@dataclass(frozen=True)
class Threshold(Statistic):
    """A constant below the `k` largest values and above all others; the lowest number if there are at most `k`.

    It lies halfway between the k-th and the next value, because the logits of the other direction are rounded
    differently.
    """

    value: Tensor
    k: int

    def masked(self, closed_AK: Tensor) -> "Threshold":
        return replace(self, value=self.value.masked_fill(closed_AK, -torch.inf))

    def reduce(self) -> Partial:
        kept = min(self.k + 1, self.value.shape[1])
        top_Ak = self.value.topk(kept, dim=1).values
        return (pad(top_Ak, (0, self.k + 1 - kept), value=-torch.inf),)

    @staticmethod
    def merge(one: Partial, other: Partial) -> Partial:
        width = one[0].shape[1]
        return (torch.cat([one[0], other[0]], dim=1).topk(width, dim=1).values,)

    @staticmethod
    def results(name: str, partial: Partial) -> dict[str, Tensor]:
        return {name: partial[0][:, -2:].mean(dim=1).clamp(min=torch.finfo(partial[0].dtype).min)}

    def slopes(self, name: str, results: Mapping[str, Tensor], factor_A1: Tensor) -> Tensor | None:
        return None


def finite(lse: Tensor) -> Tensor:
    """Replaces −inf by 0, so that −inf − lse stays −inf for an anchor without keys."""
    return lse.masked_fill(lse == -torch.inf, 0.0)


def log_sum_exp(value_AK: Tensor) -> Tensor:
    """log Σ exp(value) `[A]`, in fp64. The sums are in the type of the values."""
    if not value_AK.shape[1]:
        return value_AK.new_full(value_AK.shape[:1], -torch.inf, dtype=torch.float64)
    most_A = finite(value_AK.detach().amax(dim=1))
    return (value_AK - most_A[:, None]).exp_().sum(dim=1).double().log() + most_A


def scaled(log_weight_AK: Tensor, lse_A1: Tensor, slope: Tensor | float, factor_A1: Tensor) -> Tensor | None:
    """exp(log_weight − lse) · slope · factor. What rounding takes from lse goes into the factor."""
    if isinstance(slope, float) and slope == 0.0:
        return None
    rounded_A1 = finite(lse_A1).to(log_weight_AK)
    factor_A1 = factor_A1 * (rounded_A1 - finite(lse_A1)).exp()
    weight_AK = (log_weight_AK - rounded_A1).exp_()
    if isinstance(slope, Tensor):
        return weight_AK.mul_(slope).mul_(factor_A1.to(weight_AK))
    return weight_AK.mul_((slope * factor_A1).to(weight_AK))
