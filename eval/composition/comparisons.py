"""Comparisons of scores: what must score higher than what, and whether it does.

A score is the inner product of two vectors. A case holds if all of its inequalities do. A tie is wrong, so that
constant embeddings score zero. The metrics are those of published tests:

- `accuracy`: every right caption of an item scores higher than every wrong one. With one right and one wrong caption
  this is the rule of SugarCrepe (Hsieh et al., 2023) and ARO (Yuksekgonul et al., 2023), with two right captions the
  image-to-text test of SugarCrepe++ (Dumpala et al., 2024).
- `text-only accuracy`: the two right captions are closer to each other than either is to the wrong one, the text-only
  test of SugarCrepe++.
- `text score`, `image score`, `group score`: of two items, each finds its own caption, each caption finds its own item,
  or both (Winoground, Thrush et al., 2022).

Shape letters: I inequalities, T of them in a tile, n vectors, D dimensions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import comb

import torch
from torch import Tensor

from tercet.eval.embedding.embed import EmbeddingTable, TextEmbedder, embed_prompts
from tercet.eval.ranking.ranking import TIE

TILE = 4096  # inequalities that are compared at a time

Reference = tuple[str, int] | str  # a modality and a row of the table, or a text of its own
Inequality = tuple[Reference, Reference, Reference, Reference]  # the score of the first two is above that of the others


@dataclass(frozen=True)
class Case:
    """Anchors with right and wrong captions. The first of two anchors has the first of the right captions."""

    item: int
    kind: str
    anchors: tuple[Reference, ...]
    right: tuple[Reference, ...]
    wrong: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Metric:
    """The inequalities of a case, and how often chance fulfils them: then every order of the scores is as likely."""

    inequalities: Callable[[Case], Iterable[Inequality]]
    chance: Callable[[Case], float]


def right_above_wrong(case: Case) -> Iterable[Inequality]:
    (anchor,) = case.anchors
    return ((anchor, right, anchor, wrong) for right, wrong in product(case.right, case.wrong))


def _right_alike(case: Case) -> Iterable[Inequality]:
    first, second = case.right[:2]
    return ((first, second, right, wrong) for right, wrong in product((first, second), case.wrong))


def _own_caption(case: Case) -> Iterable[Inequality]:
    (a, b), (of_a, of_b) = case.anchors, case.right
    return (a, of_a, a, of_b), (b, of_b, b, of_a)


def _own_anchor(case: Case) -> Iterable[Inequality]:
    (a, b), (of_a, of_b) = case.anchors, case.right
    return (a, of_a, b, of_a), (b, of_b, a, of_b)


def _both(case: Case) -> Iterable[Inequality]:
    return chain(_own_caption(case), _own_anchor(case))


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(right_above_wrong, lambda case: 1 / comb(len(case.right) + len(case.wrong), len(case.right))),
    "text-only accuracy": Metric(_right_alike, lambda case: 1 / (1 + 2 * len(case.wrong))),
    "text score": Metric(_own_caption, lambda case: 1 / 4),
    "image score": Metric(_own_anchor, lambda case: 1 / 4),
    "group score": Metric(_both, lambda case: 1 / 6),
}


def hold(cases: Sequence[Case], metric: str, table: EmbeddingTable, embed_text: TextEmbedder) -> Tensor:
    """Whether each case holds."""
    return _hold([list(METRICS[metric].inequalities(case)) for case in cases], table, embed_text)


def chance(cases: Sequence[Case], metric: str) -> Tensor:
    """How often chance fulfils each case."""
    return torch.tensor([METRICS[metric].chance(case) for case in cases], dtype=torch.float64)


def _hold(inequalities: Sequence[Sequence[Inequality]], table: EmbeddingTable, embed_text: TextEmbedder) -> Tensor:
    flat = [one for case in inequalities for one in case]
    place, vectors_nD = _vectors(dict.fromkeys(chain.from_iterable(flat)), table, embed_text)
    at_I4 = torch.tensor([[place[reference] for reference in one] for one in flat])
    failed_I = torch.cat([~_is_above(vectors_nD, at_T4) for at_T4 in torch.split(at_I4, TILE)])
    case_I = torch.arange(len(inequalities)).repeat_interleave(torch.tensor([len(case) for case in inequalities]))
    return torch.zeros(len(inequalities)).index_add_(0, case_I, failed_I.float()) == 0


def _is_above(vectors_nD: Tensor, at_T4: Tensor) -> Tensor:
    """Whether the inner product of the first two vectors is above that of the other two."""
    a_TD, b_TD, c_TD, d_TD = (vectors_nD[column] for column in at_T4.T)
    above_T: Tensor = (a_TD * b_TD).sum(dim=1) - (c_TD * d_TD).sum(dim=1) > TIE
    return above_T


def _vectors(
    references: Iterable[Reference], table: EmbeddingTable, embed_text: TextEmbedder
) -> tuple[dict[Reference, int], Tensor]:
    """The vectors of references, and the row of each."""
    by_modality: dict[str, list[int]] = {}
    texts: list[str] = []
    for reference in references:
        if isinstance(reference, str):
            texts.append(reference)
        else:
            by_modality.setdefault(reference[0], []).append(reference[1])
    order: list[Reference] = [(modality, row) for modality, rows in by_modality.items() for row in rows]
    parts = [table.vectors[modality][rows] for modality, rows in by_modality.items()]
    if texts:
        texts = sorted(texts)
        dtype = next(iter(table.vectors.values())).dtype
        parts.append(embed_prompts(embed_text, texts).to(dtype))
    return {reference: row for row, reference in enumerate([*order, *texts])}, torch.cat(parts)
