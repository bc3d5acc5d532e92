"""The temperature at which a reference fits the samples of a super-batch best.

A reference may have been trained with another temperature, another batch size or another loss than the learner. Its
losses can be compared with the learner's only if its logits mean the same. As in the calibration of classifiers (Guo et
al. 2017), the scale, and the bias of the sigmoid loss, minimise the reference's mean loss.

Wrong pairs would make the scale low, because a model that is sure of nothing loses least on them; and with a low scale,
the reference's losses hardly tell wrong pairs from right ones. So a pair is taken to be wrong with a probability ε, and
then all keys are as likely. The likelihood of a pair is (1 − ε) p q + ε / K², where p and q are the probabilities of
its two directions and K is the number of keys. The scale and ε that make all pairs most likely also say how probable it
is that each pair is right, and this is its weight in the mean loss.

Shapes: N samples of all ranks, m samples to calibrate on.
"""

from collections.abc import Callable
from math import exp, log

import torch
from torch import Tensor

from tercet.training.selection.candidates import Temperature
from tercet.training.selection.pair_losses import Kind

MOST = 512  # samples, spread evenly over the super-batch; their matrix is in memory
LOW, HIGH = 1.0, 100.0  # limits of the scale
HALVINGS = 18


def calibrated(kind: Kind, x_Nd: Tensor, y_Nd: Tensor, has_N: Tensor, group_N: Tensor) -> Temperature:
    """The best temperature for these vectors of all ranks. All ranks compute the same."""
    place_m = spread(has_N)
    cosine_mm = x_Nd[place_m].double() @ y_Nd[place_m].double().T
    open_mm = group_N[place_m, None] != group_N[place_m]
    open_mm.fill_diagonal_(True)
    scale = softmax_scale(cosine_mm, open_mm)
    if kind == "softmax":
        return Temperature(scale, 0.0)
    return sigmoid_fit(cosine_mm, open_mm, right(*softmax_of_both(cosine_mm, open_mm, scale), open_mm))


def spread(has_N: Tensor) -> Tensor:
    """The places of at most `MOST` of the marked samples, spread evenly."""
    place_m = torch.nonzero(has_N).flatten()
    return place_m[:: max(-(-len(place_m) // MOST), 1)]


def softmax_scale(cosine_mm: Tensor, open_mm: Tensor) -> float:
    """The scale with the highest likelihood, over the keys that `open_mm` marks, and with the best ε for each scale."""

    def slope(scale: float) -> float:
        row_mm, column_mm = softmax_of_both(cosine_mm, open_mm, scale)
        expected_m = (row_mm * cosine_mm).sum(dim=1) + (column_mm * cosine_mm).sum(dim=0)
        return float(right(row_mm, column_mm, open_mm) @ (expected_m - 2 * cosine_mm.diagonal()))

    return root(slope)


def softmax_of_both(cosine_mm: Tensor, open_mm: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The probabilities of the keys of each row, and of each column."""
    logits_mm = (cosine_mm * scale).masked_fill(~open_mm, -torch.inf)
    return logits_mm.softmax(dim=1), logits_mm.softmax(dim=0)


def right(row_mm: Tensor, column_mm: Tensor, open_mm: Tensor) -> Tensor:
    """The probability that each pair is right, with the ε that makes all pairs most likely."""
    ratio_m = row_mm.diagonal() * column_mm.diagonal() * open_mm.sum(dim=0) * open_mm.sum(dim=1)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):  # the logarithm of the likelihood is concave in ε
        wrong = (low + high) / 2
        rises = float(((1 - ratio_m) / ((1 - wrong) * ratio_m + wrong)).sum()) > 0
        low, high = (wrong, high) if rises else (low, wrong)
    wrong = (low + high) / 2
    return (1 - wrong) * ratio_m / ((1 - wrong) * ratio_m + wrong)


def sigmoid_fit(cosine_mm: Tensor, open_mm: Tensor, right_m: Tensor) -> Temperature:
    """The scale and bias with the lowest binary cross-entropy of all entries that `open_mm` marks.

    The target of a pair is the probability that it is right. At a given scale, the best bias is the one at which the
    probabilities add up to the sum of the targets.
    """
    pairs, aligned = float(right_m.sum()), float(right_m @ cosine_mm.diagonal())

    def probabilities(scale: float, bias: float) -> Tensor:
        return torch.sigmoid(cosine_mm * scale + bias).masked_fill(~open_mm, 0.0)

    def best_bias(scale: float) -> float:
        low, high = -scale - 15, scale
        for _ in range(HALVINGS):
            bias = (low + high) / 2
            low, high = (low, bias) if float(probabilities(scale, bias).sum()) > pairs else (bias, high)
        return (low + high) / 2

    def slope(scale: float) -> float:
        return float((probabilities(scale, best_bias(scale)) * cosine_mm).sum()) - aligned

    scale = root(slope)
    return Temperature(scale, best_bias(scale))


def root(slope: Callable[[float], float]) -> float:
    """The scale at which the slope becomes positive."""
    low, high = log(LOW), log(HIGH)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(exp(middle)) > 0 else (middle, high)
    return exp((low + high) / 2)
