"""Naive losses of pairs of fields: formulas over whole matrices, which autograd differentiates.

They share no code with the objectives. Each knows the options that its objective has by default, or in its example. One
process has the whole batch. `naive_terms.py` has the losses of whole terms, and the table of all.

Shapes: N items with all fields, A anchors and K keys of one direction.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, smooth_l1_loss, softplus

from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows

Similarity = Callable[[Any, Tensor, Tensor], Tensor]  # of all rows of x and y [N, N]
NaiveLoss = Callable[[Any, Problem], Tensor]  # of the objective, for its options, and a problem of one process


@dataclass(frozen=True)
class Direction:
    """The logits of all anchors of one field with all keys of the other, −inf for other items of the anchor's group."""

    first: bool
    anchors: Rows
    keys: Rows
    logits_AK: Tensor
    scale: Tensor

    @property
    def own_AK(self) -> Tensor:
        """Which keys belong to the anchor's item."""
        return self.anchors.item_N[:, None] == self.keys.item_N

    @property
    def own_N(self) -> Tensor:
        """The logit of each anchor's only key."""
        return self.logits_AK.diagonal()

    @property
    def others_AK(self) -> Tensor:
        return self.logits_AK.masked_fill(self.own_AK, -torch.inf)

    @property
    def open_AK(self) -> Tensor:
        return self.logits_AK != -torch.inf

    def cross_entropy(self, target_AK: Tensor) -> Tensor:
        """To a target that is 0 where the logit is −inf."""
        log_P_AK = self.logits_AK - self.logits_AK.logsumexp(dim=1, keepdim=True)
        return -(target_AK * log_P_AK.masked_fill(~self.open_AK, 0.0)).sum(dim=1)


def shared(fields: Mapping[str, Rows]) -> list[Rows]:
    """The rows of the items that have all fields."""
    every = list(fields.values())
    return [rows.pick(torch.stack([torch.isin(rows.item_N, one.item_N) for one in every]).all(dim=0)) for rows in every]


def cosines(options: Any, x: Tensor, y: Tensor) -> Tensor:
    return x @ y.T


def directions(options: Any, problem: Problem, similarity: Similarity = cosines) -> Iterator[Direction]:
    x, y = shared({**problem.fields, **problem.tokens})
    logits_NN = problem.scale * similarity(options, x.z_Nd, y.z_Nd)
    if problem.bias is not None:
        logits_NN = logits_NN + problem.bias
    for anchors, keys, logits_AK in ((x, y, logits_NN), (y, x, logits_NN.T)):
        closed_AK = anchors.group_N[:, None] == keys.group_N
        closed_AK &= anchors.item_N[:, None] != keys.item_N
        yield Direction(anchors is x, anchors, keys, logits_AK.masked_fill(closed_AK, -torch.inf), problem.scale)


def both_ways(of_anchors: Callable[[Any, Direction], Tensor], similarity: Similarity = cosines) -> NaiveLoss:
    """The mean over both directions of the mean over their anchors."""

    def loss(options: Any, problem: Problem) -> Tensor:
        both = directions(options, problem, similarity)
        return torch.stack([of_anchors(options, direction).mean() for direction in both]).mean()

    return loss


def infonce(options: Any, one: Direction) -> Tensor:
    return one.logits_AK.logsumexp(dim=1) - one.own_N


def sigmoid(options: Any, one: Direction) -> Tensor:
    sign_AK = torch.where(one.own_AK, -1.0, 1.0).to(one.logits_AK)
    return softplus(sign_AK * one.logits_AK).sum(dim=1)


def decoupled(options: Any, one: Direction) -> Tensor:
    return one.others_AK.logsumexp(dim=1) - one.own_N


def hard_negative(options: Any, one: Direction) -> Tensor:
    count_N = (one.others_AK != -torch.inf).sum(dim=1, keepdim=True)
    weight_AK = count_N * torch.softmax(options.beta * one.others_AK.detach(), dim=1)
    repelling_N = (weight_AK * one.others_AK.exp()).sum(dim=1)
    positive_N: Tensor = options.alpha * one.own_N.exp()
    return (positive_N + repelling_N).log() - one.own_N


def macl(options: Any, one: Direction) -> Tensor:
    alignment = (one.own_N / one.scale).mean().detach()
    logits_AK = one.logits_AK / (1 + options.alpha * (alignment - options.alignment))
    P_N = torch.softmax(logits_AK, dim=1).diagonal()
    return -P_N.log() / (1 - P_N).detach()


def cwcl(options: Any, one: Direction) -> Tensor:
    if not one.first:
        return infonce(options, one)
    z_Nd = one.anchors.z_Nd.detach()
    weight_AK = ((1 + z_Nd @ z_Nd.T) / 2).masked_fill(~one.open_AK, 0.0)
    return one.cross_entropy(weight_AK / weight_AK.sum(dim=1, keepdim=True))


def soft(options: Any, one: Direction) -> Tensor:
    taught_AK = one.anchors.extra["teacher"] @ one.keys.extra["teacher"].T / options.temperature
    taught_AK = torch.softmax(taught_AK.masked_fill(~one.open_AK, -torch.inf), dim=1)
    return one.cross_entropy((1 - options.weight_soft) * one.own_AK + options.weight_soft * taught_AK)


def drrho(options: Any, one: Direction) -> Tensor:
    """Of the choice `negatives`, with the learner's scale."""
    taught_AK = one.anchors.extra["teacher"] @ one.keys.extra["teacher"].T
    weight_AK = one.scale.detach() * (taught_AK.diagonal()[:, None] - taught_AK)
    return (one.logits_AK + weight_AK).logsumexp(dim=1) - one.own_N


def similarity_distillation(options: Any, one: Direction) -> Tensor:
    """Of each pair that counts."""
    names = ("teacher", "teacher_2")
    taught_AK = torch.stack([one.anchors.extra[name] @ one.keys.extra[name].T for name in names]).mean(dim=0)
    cosines = one.logits_AK[one.open_AK] / one.scale
    return smooth_l1_loss(cosines, taught_AK[one.open_AK], reduction="none")


def graded(options: Any, one: Direction) -> Tensor:
    weight_N = one.anchors.extra[options.value]
    return infonce(options, one) * weight_N / weight_N.mean()


def same_cluster(options: Any, one: Direction) -> Tensor:
    """Both rows of an item have the same place."""
    label_N = one.anchors.extra["label"]
    same_AK = ((label_N[:, None] == label_N) & (label_N >= 0)[:, None] & one.open_AK) | one.own_AK
    share_AK = same_AK / same_AK.sum(dim=1, keepdim=True)
    return one.cross_entropy((1 - options.weight_cluster) * one.own_AK + options.weight_cluster * share_AK)


def multi_positive(options: Any, one: Direction) -> Tensor:
    return one.cross_entropy(one.own_AK / one.own_AK.sum(dim=1, keepdim=True))


def isogclr(options: Any, one: Direction) -> Tensor:
    tau_N1, log_u_N = one.anchors.extra["temperature"][:, None], one.anchors.extra["log_u"]
    open_AK = one.others_AK != -torch.inf
    gap_AK = torch.where(open_AK, one.logits_AK - one.own_N[:, None], 0.0)
    raised_AK = (gap_AK.detach() / tau_N1).exp() * open_AK
    count_N = open_AK.sum(dim=1)
    u_N = (1 - options.gamma) * log_u_N.exp() + options.gamma * raised_AK.sum(dim=1) / count_N
    loss_N: Tensor = 2 * (raised_AK * gap_AK).sum(dim=1) / (u_N * count_N)
    return loss_N


def sequence(options: Any, x: Tensor, y: Tensor) -> Tensor:
    """Minus half the mean squared distance at the same places, interpolated between tokens."""
    x_NPd, y_NPd = (torch.stack([interpolated(row, options.points) for row in z_NLd]) for z_NLd in (x, y))
    return -(x_NPd[:, None] - y_NPd).square().sum(dim=3).mean(dim=2) / 2


def interpolated(row_Ld: Tensor, points: int) -> Tensor:
    row_Ld = row_Ld[: int((row_Ld != 0).any(dim=1).sum())]
    place_P = torch.linspace(0, len(row_Ld) - 1, points, dtype=row_Ld.dtype, device=row_Ld.device)
    low_P = place_P.floor().long().clamp(max=max(len(row_Ld) - 2, 0))
    share_P1 = (place_P - low_P)[:, None]
    return (1 - share_P1) * row_Ld[low_P] + share_P1 * row_Ld[(low_P + 1).clamp(max=len(row_Ld) - 1)]


def segment_attention(options: Any, x: Tensor, y: Tensor) -> Tensor:
    rows = []
    for row_Ld in x:
        tokens = row_Ld[: int((row_Ld != 0).any(dim=1).sum())]
        segments: dict[int, list[Tensor]] = {}
        for place, token_d in enumerate(tokens):
            segments.setdefault(place * options.segments // len(tokens), []).append(token_d)
        segment_Sd = normalize(torch.stack([torch.stack(some).mean(dim=0) for some in segments.values()]), dim=1)
        cosine_NS = y @ segment_Sd.T
        rows.append((torch.softmax(cosine_NS / options.attention, dim=1) * cosine_NS).sum(dim=1))
    return torch.stack(rows)
