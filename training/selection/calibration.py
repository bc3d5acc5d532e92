"""The temperature at which a reference fits the samples of a super-batch best.

A reference may have been trained with another temperature, another batch size or another loss than the learner. Its
losses can be compared with the learner's only if its logits mean the same. As in the calibration of classifiers (Guo et
al. 2017), the scale, and the bias of the sigmoid loss, minimise the reference's mean loss. Both losses are convex in
them.

Wrong pairs would make the scale low, because a model that is sure of nothing loses least on them; and with a low scale,
the reference's losses hardly tell wrong pairs from right ones. So the scale is found twice: on all samples, and then on
the half of them that have the lower losses. Where few pairs are wrong, that half is easier than the rest. Its scale is
then above the one that fits all pairs, and may reach `HIGH`.

Shapes: N samples of all ranks, m samples to calibrate on.
"""

from collections.abc import Callable
from math import exp, log

import torch
from torch import Tensor

from tercet.training.selection.candidates import Temperature
from tercet.training.selection.pair_losses import Kind, softplus

MOST = 512  # samples, spread evenly over the super-batch; their matrix is in memory
LOW, HIGH = 1.0, 100.0  # limits of the scale
HALVINGS = 14


def calibrated(kind: Kind, x_Nd: Tensor, y_Nd: Tensor, has_N: Tensor, group_N: Tensor) -> Temperature:
    """The best temperature for these vectors of all ranks. All ranks compute the same."""
    place_m = spread(has_N)
    cosine_mm = x_Nd[place_m].double() @ y_Nd[place_m].double().T
    open_mm = group_N[place_m, None] != group_N[place_m]
    open_mm.fill_diagonal_(True)
    fit, losses = (softmax_scale, softmax_losses) if kind == "softmax" else (sigmoid_scale, sigmoid_losses)
    loss_m = losses(cosine_mm, open_mm, fit(cosine_mm, open_mm))
    better_k = loss_m.argsort(stable=True)[: max(len(loss_m) // 2, 2)]
    return fit(cosine_mm[better_k][:, better_k], open_mm[better_k][:, better_k])


def spread(has_N: Tensor) -> Tensor:
    """The places of at most `MOST` of the marked samples, spread evenly."""
    place_m = torch.nonzero(has_N).flatten()
    return place_m[:: max(-(-len(place_m) // MOST), 1)]


def softmax_scale(cosine_mm: Tensor, open_mm: Tensor) -> Temperature:
    """The scale with the lowest mean cross-entropy of both directions, over the keys that `open_mm` marks."""

    def slope(scale: float) -> float:
        logits_mm = (cosine_mm * scale).masked_fill(~open_mm, -torch.inf)
        expected = sum(float((logits_mm.softmax(dim=dim) * cosine_mm).sum()) for dim in (0, 1))
        return expected - 2 * float(cosine_mm.diagonal().sum())

    return Temperature(root(slope), 0.0)


def softmax_losses(cosine_mm: Tensor, open_mm: Tensor, at: Temperature) -> Tensor:
    """The loss of each pair."""
    logits_mm = (cosine_mm * at.scale).masked_fill(~open_mm, -torch.inf)
    return logits_mm.logsumexp(dim=0) + logits_mm.logsumexp(dim=1) - 2 * logits_mm.diagonal()


def sigmoid_scale(cosine_mm: Tensor, open_mm: Tensor) -> Temperature:
    """The scale and bias with the lowest binary cross-entropy of all entries that `open_mm` marks.

    At a given scale, the best bias is the one at which the probabilities add up to the number of pairs.
    """

    def probabilities(scale: float, bias: float) -> Tensor:
        return torch.sigmoid(cosine_mm * scale + bias).masked_fill(~open_mm, 0.0)

    def best_bias(scale: float) -> float:
        low, high = -2 * HIGH, HIGH
        for _ in range(HALVINGS):
            bias = (low + high) / 2
            low, high = (low, bias) if float(probabilities(scale, bias).sum()) > len(cosine_mm) else (bias, high)
        return (low + high) / 2

    def slope(scale: float) -> float:
        expected = float((probabilities(scale, best_bias(scale)) * cosine_mm).sum())
        return expected - float(cosine_mm.diagonal().sum())

    scale = root(slope)
    return Temperature(scale, best_bias(scale))


def sigmoid_losses(cosine_mm: Tensor, open_mm: Tensor, at: Temperature) -> Tensor:
    """The loss of each pair and of its row and column."""
    logits_mm = cosine_mm * at.scale + at.bias
    push_mm = softplus(logits_mm).masked_fill(~open_mm, 0.0)
    return push_mm.sum(dim=0) + push_mm.sum(dim=1) - push_mm.diagonal() - logits_mm.diagonal()


def root(slope: Callable[[float], float]) -> float:
    """Where the slope of a convex function of the scale becomes positive."""
    low, high = log(LOW), log(HIGH)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(exp(middle)) > 0 else (middle, high)
    return exp((low + high) / 2)
