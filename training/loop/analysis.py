"""What the embedding space looks like while it trains: measures of each field, and of each pair of fields in a term.

Of a field: `uniformity` and `effective_rank`; of two fields of a term: `alignment`, `modality_gap` and `mir`. The
module `eval/space.py` defines them.

Of a term, also what its objective measures by itself, such as `information` of self_distillation:

- masked: the share of the keys that repel no anchor, because of equal groups or the objective's filter, among all keys
  of other items
- penalty_entropy: entropy of the relative penalties of an anchor's negatives, exp(s⟨x, y'⟩) / Σ exp(s⟨x, y''⟩) (Wang
  and Liu 2021), divided by the log of their number: 1 if all repel alike, 0 if one alone does. It is the mean over the
  anchors of both directions, and always uses the penalties of InfoNCE at the term's temperature s. For two fields only.

The cost is bounded: only `SAMPLE` random items count, each with its first row of a field. The choice depends on the
seed, the step and the number of the item in the global batch, so it is the same on any number of processes. All is
computed on the CPU in fp64, without global random state.

Shapes: N rows of all ranks, n chosen items, d dimensions.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import isfinite

import torch
from torch import Tensor

from tercet.data_pipelines.seeding import keys
from tercet.eval.space import (
    alignment,
    effective_rank,
    matrix_mutual_information_ratio,
    modality_gap,
    uniformity,
)
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.terms import Outcome
from tercet.models.term_config import TermConfig

SAMPLE = 256


def analyse(outcome: Outcome, terms: Sequence[TermConfig], seed: int, step: int) -> dict[str, float]:
    """The measures by name: `image-text/alignment`, `image/uniformity`. Leaves out what has no value, such as the
    alignment of a term without pairs. Empty if the loss is not finite."""
    if not torch.isfinite(outcome.loss):
        return {}
    sample = Sample(outcome, seed, step)
    measures = [*_of_terms(sample, terms), *_of_fields(sample, terms)]
    return {name: float(value) for name, value in measures if isfinite(value)}


class Sample:
    """The chosen items of a step."""

    def __init__(self, outcome: Outcome, seed: int, step: int) -> None:
        self.outcome, self.seed, self.step = outcome, seed, step

    def rows(self, *names: str) -> list[tuple[Tensor, Tensor]]:
        """The vectors `[n, d]` and the groups `[n]` of each field, for at most `SAMPLE` items that have all of them."""
        known = {**self.outcome.frozen, **self.outcome.gathered}
        fields = [known[name] for name in names]
        item_n = self._items([field.item_N.cpu() for field in fields])
        found = []
        for field in fields:
            # Rows are in the order of their items.
            first_n = torch.searchsorted(field.item_N, item_n.to(field.item_N.device))
            found.append((field.z_Nd[first_n].cpu().double(), field.group_N[first_n].cpu()))
        return found

    def _items(self, fields: Sequence[Tensor]) -> Tensor:
        item_N: Tensor = torch.unique(fields[0])
        for others in fields[1:]:
            item_N = item_N[torch.isin(item_N, others)]
        order = keys("analysis", self.seed, self.step, item_N.numpy()).argsort()
        return item_N[torch.as_tensor(order[:SAMPLE])]


def _of_terms(sample: Sample, terms: Sequence[TermConfig]) -> Iterator[tuple[str, Tensor]]:
    for term in terms:
        for name, value in sample.outcome.measures[term.name].items():
            yield f"{term.name}/{name}", value
        anchors = sample.outcome.anchors[term.name]
        if anchors:
            yield f"{term.name}/masked", masked(anchors)
        for one, other in combinations(term.between, 2):
            (x_nd, group_n), (y_nd, _) = sample.rows(term.vectors_of(one), term.vectors_of(other))
            name = term.name if len(term.between) == 2 else f"{term.name}/{one}-{other}"
            yield f"{name}/alignment", alignment(x_nd, y_nd)
            yield f"{name}/modality_gap", modality_gap(x_nd, y_nd)
            yield f"{name}/mir", matrix_mutual_information_ratio(x_nd, y_nd)
            if len(term.between) == 2 and anchors:
                logits_nn = float(anchors[0].scale) * x_nd @ y_nd.T
                yield f"{name}/penalty_entropy", penalty_entropy(logits_nn, group_n[:, None] != group_n)


def _of_fields(sample: Sample, terms: Sequence[TermConfig]) -> Iterator[tuple[str, Tensor]]:
    for name in dict.fromkeys(term.vectors_of(name) for term in terms for name in term.between):
        ((x_nd, _),) = sample.rows(name)
        yield f"{name}/uniformity", uniformity(x_nd)
        yield f"{name}/effective_rank", effective_rank(x_nd)


def masked(directions: Sequence[Anchors]) -> Tensor:
    masked_N = torch.cat([anchors.masked for anchors in directions])
    negatives_N = torch.cat([anchors.negatives for anchors in directions])
    return masked_N.sum() / (masked_N + negatives_N).sum()


def penalty_entropy(logits_nn: Tensor, negative_nn: Tensor) -> Tensor:
    """The mean over the anchors of both directions that have two negatives or more."""
    both = torch.cat([logits_nn, logits_nn.T]), torch.cat([negative_nn, negative_nn.T])
    several_n = both[1].sum(dim=1) > 1
    logits_nn, negative_nn = (values[several_n] for values in both)
    penalty_nn = logits_nn.masked_fill(~negative_nn, -torch.inf).softmax(dim=1)
    even_n = negative_nn.sum(dim=1).log()  # the entropy of equal penalties
    return torch.mean(torch.special.entr(penalty_nn).sum(dim=1) / even_n)
