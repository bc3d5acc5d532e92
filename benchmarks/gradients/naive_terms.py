"""Naive losses of whole terms, and the table of all naive losses.

They share no code with the objectives but the permutations that symile draws.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, huber_loss, normalize, pdist, smooth_l1_loss

from tercet.benchmarks.gradients.naive import (
    NaiveLoss,
    both_ways,
    cwcl,
    decoupled,
    directions,
    drrho,
    graded,
    hard_negative,
    infonce,
    isogclr,
    macl,
    multi_positive,
    same_cluster,
    segment_attention,
    sequence,
    shared,
    sigmoid,
    similarity_distillation,
    soft,
)
from tercet.data_pipelines.seeding import keyed, uniforms
from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.models.losses.symile import permutations


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


def patch_groups(options: Any, problem: Problem) -> Tensor:
    """Each caption and the group of patches of its own picture, one after the other."""
    (_, captions), (patches,) = problem.fields.values(), problem.tokens.values()
    groups, kept = [], []
    for place, item in enumerate(captions.item_N.tolist()):
        if item in patches.item_N.tolist():
            tokens_Ld = patches.z_Nd[patches.item_N.tolist().index(item)]
            tokens_Ld = tokens_Ld[(tokens_Ld != 0).any(dim=1)]
            cosine_L = tokens_Ld @ captions.z_Nd[place]
            spread = cosine_L.max() - cosine_L.min()
            weight_L = (cosine_L - cosine_L.min()) / spread if spread > 0 else torch.ones_like(cosine_L)
            weight_L = torch.stack([one if one >= options.threshold else one * 0 for one in weight_L])
            groups.append(normalize((weight_L[:, None] * tokens_Ld).sum(dim=0), dim=0))
            kept.append(place)
    rows = captions.pick(torch.isin(torch.arange(len(captions)), torch.tensor(kept)))
    closed_NN = (rows.group_N[:, None] == rows.group_N) & (rows.item_N[:, None] != rows.item_N)
    logits_NN = (problem.scale * torch.stack(groups) @ rows.z_Nd.T).masked_fill(closed_NN, -torch.inf)
    both = [logits_NN.logsumexp(dim=dim) - logits_NN.diagonal() for dim in (0, 1)]
    return torch.stack(both).mean()


def infonce_own_negatives(options: Any, problem: Problem) -> Tensor:
    """Over the pictures, each with its caption and its own wrong captions."""
    images, captions = shared(problem.fields)
    wrong = problem.against["image"]["text.negative"]
    losses = []
    for z_d, own_d, sample in zip(images.z_Nd, captions.z_Nd, images.id_N, strict=True):
        logits = problem.scale * torch.stack([own_d, *wrong.z_Nd[wrong.id_N == sample]]) @ z_d
        losses.append(logits.logsumexp(dim=0) - logits[0])
    return torch.stack(losses).mean()


def barlow_twins(options: Any, problem: Problem) -> Tensor:
    x, y = shared(problem.fields)
    deviations = [(rows.z_Nd.var(dim=0, correction=0) + 1e-12).sqrt() for rows in (x, y)]
    both = [(rows.z_Nd - rows.z_Nd.mean(dim=0)) / sigma_d for rows, sigma_d in zip((x, y), deviations, strict=True)]
    c_dd = both[0].T @ both[1] / len(x)
    own_d, every = c_dd.diagonal(), c_dd.square().sum()
    loss: Tensor = (1 - own_d).square().sum() + options.redundancy * (every - own_d.square().sum())
    return loss


def masked_prediction(options: Any, problem: Problem) -> Tensor:
    """Over items and their patches."""
    student, teacher = problem.tokens.values()
    losses = []
    for item in {*student.item_N.tolist()} & {*teacher.item_N.tolist()}:
        (r_LK,), (t_LK,) = student.z_Nd[student.item_N == item], teacher.z_Nd[teacher.item_N == item].detach()
        for r_K, t_K in zip(r_LK, t_LK, strict=True):
            p_K = torch.softmax((t_K - problem.averages["centre"]) / options.teacher_temperature[0], 0)
            losses.append(-(p_K * torch.log_softmax(problem.scale * r_K, 0)).sum())
    return torch.stack(losses).mean()


def swav(options: Any, problem: Problem) -> Tensor:
    x, y = shared(problem.fields)
    total = problem.scale.new_zeros(())
    for anchors, target in ((x, y), (y, x)):
        q_NK = (target.z_Nd.detach() / options.epsilon).exp()
        for _ in range(options.iterations):
            q_NK = q_NK / q_NK.sum(dim=0) / q_NK.shape[1]
            q_NK = q_NK / q_NK.sum(dim=1, keepdim=True)
        total = total - (q_NK * torch.log_softmax(problem.scale * anchors.z_Nd, dim=1)).sum(dim=1).mean() / 2
    return total


def feature_distillation(options: Any, problem: Problem) -> Tensor:
    items = {item for rows in problem.fields.values() for item in rows.item_N.tolist()}
    total = problem.scale.new_zeros(())
    for rows in problem.fields.values():
        for z_d, taught_d in zip(rows.z_Nd, rows.extra["teacher"], strict=True):
            total = total + (z_d - taught_d).pow(2).sum() / len(items)
    return total


def random_alignment(options: Any, problem: Problem) -> Tensor:
    items = {item for rows in problem.unnormalised.values() for item in rows.item_N.tolist()}
    total = problem.scale.new_zeros(())
    for rows in problem.unnormalised.values():
        for f_d, sample in zip(rows.z_Nd, rows.id_N.tolist(), strict=True):
            drawn = keyed("random alignment", problem.seed, item=sample).standard_normal(len(f_d))
            total = total + (f_d - torch.from_numpy(drawn).to(f_d)).pow(2).mean() / len(items)
    return total


def structure_distillation(options: Any, problem: Problem) -> Tensor:
    pairs = [(pdist(rows.z_Nd), pdist(rows.extra["teacher"])) for rows in problem.fields.values()]
    return torch.stack([smooth_l1_loss(student, teacher) for student, teacher in pairs]).sum()


def matryoshka(options: Any, problem: Problem) -> Tensor:
    total = problem.scale.new_zeros(())
    for dim in options.dims:
        cut = {
            name: Rows(normalize(rows.z_Nd[:, :dim], dim=1), rows.own, rows.item_N, rows.group_N, rows.id_N)
            for name, rows in problem.fields.items()
        }
        total = total + both_ways(infonce)(options, Problem(cut, problem.scale, None, problem.tile, problem.world))
    return total


def primary_component(options: Any, problem: Problem) -> Tensor:
    """The components come from the products of rows, which has the same reconstruction."""
    (name, rows), other = next(iter(problem.fields.items())), list(problem.fields)[1]
    mean_d = rows.z_Nd.mean(dim=0)
    centred_Nd = rows.z_Nd - mean_d
    kept_Nk = torch.linalg.eigh(centred_Nd @ centred_Nd.T).eigenvectors[:, -options.components :]
    coarse = replace(rows, z_Nd=normalize(mean_d + kept_Nk @ kept_Nk.T @ centred_Nd, dim=1))
    return both_ways(infonce)(options, replace(problem, fields={name: coarse, other: problem.fields[other]}))


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


def multi_teacher(options: Any, problem: Problem) -> Tensor:
    """Over the rows of all fields, and the teachers of each that are not dropped."""
    total, count = problem.scale.new_zeros(()), 0.0
    for name, rows in problem.fields.items():
        taught = [rows.extra[teacher] for teacher in problem.references]
        target = [(y_Nd - y_Nd.mean(dim=0)) / y_Nd.std(dim=0, correction=0) for y_Nd in taught]
        drawn_NT = uniforms(f"teachers of {name}", problem.seed, rows.number_N, rows.item_N, len(taught))
        for row, z_D in enumerate(rows.z_Nd):
            parts = z_D.split([y_Nd.shape[1] for y_Nd in taught])
            losses = [
                options.cosine * (1 - cosine_similarity(x_d, y_Nd[row], dim=0))
                + (1 - options.cosine) * huber_loss(x_d, y_Nd[row])
                for x_d, y_Nd in zip(parts, target, strict=True)
            ]
            hardest = max(range(len(losses)), key=lambda one: float(losses[one].detach()))
            kept = [losses[one] for one in range(len(losses)) if one == hardest or drawn_NT[row, one] >= options.drop]
            total, count = total + torch.stack(kept).sum(), count + len(kept)
    return total / count


def self_distillation(options: Any, problem: Problem) -> Tensor:
    """Over items, and the pairs of a row of the student and one of the teacher that are not the same crop."""
    student, teacher = problem.fields.values()
    hot = options.teacher_temperature[0]
    losses = []
    for item in {*student.item_N.tolist()}:
        pairs = [
            -(torch.softmax((t_K.detach() - problem.averages["centre"]) / hot, 0) * torch.log_softmax(r_K, 0)).sum()
            for number, r_K in enumerate(problem.scale * student.z_Nd[student.item_N == item])
            for other, t_K in enumerate(teacher.z_Nd[teacher.item_N == item])
            if number != other
        ]
        losses += [torch.stack(pairs).mean()] if pairs else []
    return torch.stack(losses).mean()


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
    "barlow_twins": barlow_twins,
    "cwcl": both_ways(cwcl),
    "decoupled": both_ways(decoupled),
    "drrho": both_ways(drrho),
    "feature_distillation": feature_distillation,
    "graded": both_ways(graded),
    "graded_list": over_lists(graded_list),
    "hard_negative": both_ways(hard_negative),
    "infonce": both_ways(infonce),
    "infonce_own_negatives": infonce_own_negatives,
    "isogclr": both_ways(isogclr),
    "listwise": over_lists(listwise),
    "macl": both_ways(macl),
    "masked_prediction": masked_prediction,
    "matryoshka": matryoshka,
    "multi_positive": both_ways(multi_positive),
    "patch_groups": patch_groups,
    "multi_teacher": multi_teacher,
    "poly_view": poly_view,
    "primary_component": primary_component,
    "prototype": prototype,
    "random_alignment": random_alignment,
    "same_cluster": both_ways(same_cluster),
    "self_distillation": self_distillation,
    "segment_attention": both_ways(infonce, segment_attention),
    "sequence": both_ways(infonce, sequence),
    "sigmoid": both_ways(sigmoid),
    "similarity_distillation": both_ways(similarity_distillation),
    "soft": both_ways(soft),
    "structure_distillation": structure_distillation,
    "swav": swav,
    "symile": symile,
}
