"""How much a learner can still learn from each sample: its contrastive loss minus that of a reference model.

This is the score of JEST (Evans et al. 2024) for one sample at a time: high for samples that are hard for the learner
and easy for a model that was trained well; low for those that both know, and for those that are wrong. JEST scores the
samples of a batch together while it trains; here each is scored once, within a random batch of the data.

A batch has `batch_size` samples of one part, which are 65,536 consecutive ids. Each sample is scored once. The last
batch of a part is filled with other samples of the part, and a part that is smaller than a batch with samples before
it, so every loss is over as many pairs, unless the data have fewer. Batches depend on the seed and the data alone.
Samples of one group are never negatives of each other.

The loss of a sample is that of its term: with the inverse temperature s, and cosines c_ij,

    softmax    ½ [ln Σ_j exp(s c_ij) − s c_ii] + ½ [ln Σ_j exp(s c_ji) − s c_ii]
    sigmoid    ln(1 + exp(−s c_ii − b)) + ½ Σ_{j≠i} [ln(1 + exp(s c_ij + b)) + ln(1 + exp(s c_ji + b))]

Both models use their own temperatures. The second form is for terms with a bias.

Shape letters: m pairs of a batch, n of them that are scored, d dimensions.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from tercet.data_pipelines.curate.score_group import Columns, ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_task import ScoreTask, Values
from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.seeding import keyed
from tercet.errors import UserError
from tercet.eval.embedding.store import Store
from tercet.eval.products import inner
from tercet.eval.score import PairVectors, column_of, facts_of, pair_vectors, pairs_of
from tercet.models.multimodal import Multimodal

LEARNER, REFERENCE = "learner", "reference"


@dataclass(frozen=True)
class Temperature:
    """Of a term: the inverse temperature, and the bias if the term has one."""

    scale: float
    bias: float | None


@dataclass(frozen=True)
class Scorer:
    """A model by its name, and its embeddings of the data."""

    name: str
    model: Multimodal
    store: Store

    def temperatures(self) -> dict[tuple[str, str], Temperature]:
        """Of each two modalities that the data have and a term compares, by the usual name of the term."""
        found = {}
        for pair in pairs_of(self.store):
            for term in filter(self.model.terms.__contains__, ("-".join(pair), "-".join(reversed(pair)))):
                scale, bias = self.model.head.temperature(term)
                found[pair] = Temperature(scale.item(), None if bias is None else bias.item())
        return found


def score_learnability(task: ScoreTask, learner: Scorer, reference: Scorer, batch_size: int, seed: int) -> ScoreGroup:
    """A collective."""
    scorers = {LEARNER: learner, REFERENCE: reference}
    known = {name: one.temperatures() for name, one in scorers.items()}
    shared = [pair for pair in known[LEARNER] if pair in known[REFERENCE]]
    if not shared:
        raise UserError(f"{learner.name} and {reference.name} have no term in common; name another reference")
    temperatures = {name: [astuple(pairs[pair]) for pair in shared] for name, pairs in known.items()}
    stores = {name: facts_of(one.store) for name, one in scorers.items()}
    columns = _columns(shared)
    request = {"by": "learnability", **stores, "temperatures": temperatures, "batch_size": batch_size, "seed": seed}
    group = task.begin(request, columns)
    mine = task.mine(group)
    for ids in with_progress(mine, "scoring", len(mine)):
        found = []
        for pair in shared:
            losses = {
                name: _losses(task, one.store, ids, pair, known[name][pair], batch_size, seed)
                for name, one in scorers.items()
            }
            found.append(_named(pair, *losses[LEARNER], *losses[REFERENCE]))
        task.write(group, ids, columns, found)
    return task.finish(group)


def _columns(pairs: list[tuple[str, str]]) -> Columns:
    columns = {}
    for pair in pairs:
        name, both = column_of(pair), f"{pair[0]} and {pair[1]}"
        columns[name] = ScoreColumn("float32", f"learnability by {both}: the learner's loss minus the reference's")
        columns[f"{name}_learner"] = ScoreColumn("float32", f"the learner's contrastive loss of {both}")
        columns[f"{name}_reference"] = ScoreColumn("float32", f"the reference's contrastive loss of {both}")
    return columns


def _named(
    pair: tuple[str, str],
    ids: list[int],
    learner_n: NDArray[np.float32],
    others: list[int],
    other_n: NDArray[np.float32],
) -> tuple[list[int], Values]:
    """The columns of the samples that both models have scored."""
    both, at_n, at_o = np.intersect1d(ids, others, assume_unique=True, return_indices=True)
    own_n, reference_n = learner_n[at_n], other_n[at_o]
    name = column_of(pair)
    values = {name: own_n - reference_n, f"{name}_learner": own_n, f"{name}_reference": reference_n}
    return both.tolist(), values


def _losses(
    task: ScoreTask, store: Store, ids: range, pair: tuple[str, str], temperature: Temperature, size: int, seed: int
) -> tuple[list[int], NDArray[np.float32]]:
    """The ids and losses of the samples of a part."""
    own = pair_vectors(store, ids, *pair)
    before = range(max(ids.start - size, 0), ids.start)
    pool = own if len(own.id_n) >= size else _joined(own, pair_vectors(store, before, *pair))
    loss_n = np.zeros(len(own.id_n), dtype=np.float32)
    for row_m, count in batches(len(own.id_n), len(pool.id_n), size, keyed("learnability", seed, item=ids.start)):
        rows = torch.from_numpy(row_m)
        device = task.world.device
        batch = (pool.one_nd[rows].to(device), pool.other_nd[rows].to(device), pool.group_n[rows].to(device))
        loss_n[row_m[:count]] = pair_losses(*batch, temperature)[:count].cpu().numpy()
    return own.id_n, loss_n


def batches(own: int, pool: int, size: int, dice: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Rows of the pool, whose first `own` rows are scored once each, and how many of a batch are scored: its first."""
    order = dice.permutation(own)
    for start in range(0, own, size):
        scored = order[start : start + size]
        others = np.setdiff1d(np.arange(pool), scored)
        fill = dice.choice(others, min(size - len(scored), len(others)), replace=False)
        yield np.concatenate([scored, fill]), len(scored)


def pair_losses(one_md: Tensor, other_md: Tensor, group_m: Tensor, temperature: Temperature) -> Tensor:
    """The loss of each pair of a batch."""
    logit_mm = inner(temperature.scale * one_md, other_md) + (temperature.bias or 0.0)
    own_m = logit_mm.diagonal()
    same_mm = (group_m[:, None] == group_m) & (group_m >= 0)
    same_mm.fill_diagonal_(False)
    if temperature.bias is None:
        logit_mm = logit_mm.masked_fill(same_mm, -torch.inf)
        return (logit_mm.logsumexp(dim=1) + logit_mm.logsumexp(dim=0)) / 2 - own_m
    wrong_mm = softplus(logit_mm).masked_fill(same_mm, 0).fill_diagonal_(0)
    return softplus(-own_m) + (wrong_mm.sum(dim=1) + wrong_mm.sum(dim=0)) / 2


def _joined(one: PairVectors, other: PairVectors) -> PairVectors:
    return PairVectors(
        one.id_n + other.id_n,
        torch.cat([one.group_n, other.group_n]),
        torch.cat([one.one_nd, other.one_nd]),
        torch.cat([one.other_nd, other.other_nd]),
    )
