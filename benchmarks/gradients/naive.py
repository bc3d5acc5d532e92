"""Naive losses: formulas over whole matrices, which autograd differentiates.

They share no code with the objectives but the permutations that symile draws. Each knows the options that its objective
has by default, or in its example. One process has the whole batch.

Shapes: N items with all fields, A anchors and K keys of one direction.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.models.losses.symile import permutations

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


def align_uniform(options: Any, problem: Problem) -> Tensor:
    pairs = [shared({"x": x, "y": y}) for x, y in combinations(problem.fields.values(), 2)]
    aligned = [(x.z_Nd - y.z_Nd).norm(dim=1).pow(options.alpha).mean() for x, y in pairs]
    uniform = []
    for rows in problem.fields.values():
        distance_NN = (rows.z_Nd[:, None] - rows.z_Nd).square().sum(dim=2)
        different_NN = rows.group_N[:, None] != rows.group_N
        uniform.append((-options.t * distance_NN[different_NN]).exp().mean().log())
    weight: float = options.uniformity
    return torch.stack(aligned).mean() + weight * torch.stack(uniform).mean()


def alip(options: Any, problem: Problem) -> Tensor:
    x, y, z = shared(problem.fields)
    cosines = {"captions": (y, z), "raw": (x, y), "synthetic": (x, z)}
    gates = {}
    for name, (one, other) in cosines.items():
        cosine_N = (one.z_Nd * other.z_Nd).sum(dim=1).detach()
        average = options.momentum * problem.averages[name] + (1 - options.momentum) * cosine_N.mean()
        gates[name] = (options.strength * (cosine_N - average)).exp()
    sample_N = gates["captions"].clamp(max=1.0)
    total = problem.scale.new_zeros(())
    for caption, name in ((y, "raw"), (z, "synthetic")):
        gate_N = sample_N * torch.where(sample_N < 1, gates[name], 1.0)
        pair = Problem({"image": x, name: caption}, problem.scale, None, problem.tile, problem.world)
        for direction in directions(options, pair):
            total = total + (gate_N * infonce(options, direction)).mean() / 2
    return total


def infonce_own_negatives(options: Any, problem: Problem) -> Tensor:
    """Over the pictures, each with its caption and its own wrong captions."""
    images, captions = shared(problem.fields)
    wrong = problem.against["image"]["text.negative"]
    losses = []
    for z_d, own_d, sample in zip(images.z_Nd, captions.z_Nd, images.id_N, strict=True):
        logits = problem.scale * torch.stack([own_d, *wrong.z_Nd[wrong.id_N == sample]]) @ z_d
        losses.append(logits.logsumexp(dim=0) - logits[0])
    return torch.stack(losses).mean()


def feature_distillation(options: Any, problem: Problem) -> Tensor:
    items = {item for rows in problem.fields.values() for item in rows.item_N.tolist()}
    total = problem.scale.new_zeros(())
    for rows in problem.fields.values():
        for z_d, taught_d in zip(rows.z_Nd, rows.extra["teacher"], strict=True):
            total = total + (z_d - taught_d).pow(2).sum() / len(items)
    return total


def matryoshka(options: Any, problem: Problem) -> Tensor:
    total = problem.scale.new_zeros(())
    for dim in options.dims:
        cut = {
            name: Rows(normalize(rows.z_Nd[:, :dim], dim=1), rows.own, rows.item_N, rows.group_N, rows.id_N)
            for name, rows in problem.fields.items()
        }
        total = total + both_ways(infonce)(options, Problem(cut, problem.scale, None, problem.tile, problem.world))
    return total


def prototype(options: Any, problem: Problem) -> Tensor:
    """Over anchors whose cluster has a centroid, with the clusters that have one as a smaller set."""
    parts = []
    for name, rows in problem.fields.items():
        prototypes = problem.prototypes[name]
        known = torch.nonzero(prototypes.exists_K).flatten().tolist()
        losses = []
        for z_d, label in zip(rows.z_Nd, rows.extra["label"].tolist(), strict=True):
            if int(label) in known:
                teacher_e = prototypes.teacher_Ke[int(label)]
                target = torch.softmax(prototypes.teacher_Ke[known] @ teacher_e / options.temperature, dim=0)
                logits = problem.scale * prototypes.centroid_Kd[known] @ z_d
                losses.append(-(target * torch.log_softmax(logits, dim=0)).sum())
        parts.append(torch.stack(losses).mean())
    return torch.stack(parts).mean()


def symile(options: Any, problem: Problem) -> Tensor:
    fields = shared(problem.fields)
    group_N, count = fields[0].group_N, len(fields[0])
    parts = []
    for number, anchors in enumerate(fields):
        keys = [rows.z_Nd for other, rows in enumerate(fields) if other != number]
        order_FN = permutations(problem.seed, number, len(keys), count).to(group_N.device)
        products = [z_Nd[order_N] for z_Nd, order_N in zip(keys, order_FN, strict=True)]
        logits_NN = problem.scale * anchors.z_Nd @ torch.stack(products).prod(dim=0).T
        closed_NN = (group_N[:, None, None] == group_N[order_FN]).all(dim=1)
        own_N = problem.scale * (anchors.z_Nd * torch.stack(keys).prod(dim=0)).sum(dim=1)
        matrix = torch.diagonal_scatter(logits_NN.masked_fill(closed_NN, -torch.inf), own_N)
        parts.append((matrix.logsumexp(dim=1) - own_N).mean())
    return torch.stack(parts).mean()


def poly_view(options: Any, problem: Problem) -> Tensor:
    """Over items, their views, and the other views of each."""
    views: dict[int, list[Tensor]] = {}
    groups: dict[int, int] = {}
    for rows in problem.fields.values():
        for z_d, item, group in zip(rows.z_Nd, rows.item_N.tolist(), rows.group_N.tolist(), strict=True):
            views.setdefault(item, []).append(z_d)
            groups[item] = group
    views = {item: some for item, some in views.items() if len(some) > 1}
    total = problem.scale.new_zeros(())
    for item, some in views.items():
        keys = [z_d for other, more in views.items() if groups[other] != groups[item] for z_d in more]
        repelled = problem.scale * torch.stack(some) @ torch.stack(keys).T
        attracted = problem.scale * torch.stack(some) @ torch.stack(some).T
        for anchor, positive in ((a, b) for a in range(len(some)) for b in range(len(some)) if a != b):
            logits = torch.cat([attracted[anchor, positive].reshape(1), repelled[anchor]])
            loss = logits.logsumexp(dim=0) - logits[0]
            total = total + loss / (len(views) * len(some) * (len(some) - 1))
    return total


def over_lists(of_list: Callable[[Any, Tensor, Tensor], Tensor]) -> NaiveLoss:
    """The mean over all anchors with two or more candidates, of their cosines times the scale and their numbers."""

    def loss(options: Any, problem: Problem) -> Tensor:
        anchors, candidates = problem.fields.values()
        losses = []
        for z_d, item in zip(anchors.z_Nd, anchors.item_N, strict=True):
            mine = candidates.item_N == item
            if mine.sum() > 1:
                logits = problem.scale * candidates.z_Nd[mine] @ z_d
                losses.append(of_list(options, logits, candidates.extra["number"][mine]))
        return torch.stack(losses).mean()

    return loss


def listwise(options: Any, logits: Tensor, numbers: Tensor) -> Tensor:
    target = torch.softmax(numbers / options.temperature, dim=0)
    return (target * (target.log() - torch.log_softmax(logits, dim=0))).sum()


def graded_list(options: Any, logits: Tensor, numbers: Tensor) -> Tensor:
    target, found = torch.softmax(numbers / options.temperature, dim=0), torch.softmax(logits, dim=0)
    total = logits.new_zeros(())
    for low, high in pairwise(sorted({*numbers.tolist()})):
        total = total + (high - low) * (target - found)[numbers <= low].sum().abs()
    return total


NAIVE: dict[str, NaiveLoss] = {
    "align_uniform": align_uniform,
    "alip": alip,
    "cwcl": both_ways(cwcl),
    "decoupled": both_ways(decoupled),
    "feature_distillation": feature_distillation,
    "graded": both_ways(graded),
    "graded_list": over_lists(graded_list),
    "hard_negative": both_ways(hard_negative),
    "infonce": both_ways(infonce),
    "infonce_own_negatives": infonce_own_negatives,
    "isogclr": both_ways(isogclr),
    "listwise": over_lists(listwise),
    "macl": both_ways(macl),
    "matryoshka": matryoshka,
    "multi_positive": both_ways(multi_positive),
    "poly_view": poly_view,
    "prototype": prototype,
    "same_cluster": both_ways(same_cluster),
    "segment_attention": both_ways(infonce, segment_attention),
    "sequence": both_ways(infonce, sequence),
    "sigmoid": both_ways(sigmoid),
    "soft": both_ways(soft),
    "symile": symile,
}
