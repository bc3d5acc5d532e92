"""What models score that have learned nothing (`null_models.py`), or know all. The self-test compares scores with it.

Shape letters: n tested items, K classes, P parts of the items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class NullScores:
    """What a measure knows of its metrics, beside the scores of chance.

    - `constant`: the score of a model that gives all items and texts the same vector. A metric that is not named must
      not be better than chance.
    - `random`: the mean score of random vectors; None if nothing is known of it. A metric that is not named must not be
      better than `shuffled` says or, where that says nothing, than chance.
    - `shuffled`: the best mean score of vectors that say nothing about the items, such as a model's own ones in a
      shuffled order. A metric that is not named may have any.
    - `informed`: the score of vectors that say the answers, those of `Task.informed`. A metric that is not named may
      have any.
    """

    constant: Mapping[str, float] = field(default_factory=dict)
    random: Mapping[str, float | None] = field(default_factory=dict)
    shuffled: Mapping[str, float] = field(default_factory=dict)
    informed: Mapping[str, float] = field(default_factory=dict)


def best_answer(label_n: Tensor, part_n: Tensor, weights_n: Tensor | None = None, k: int = 1) -> float:
    """The score of the best answer that is the same for all items of a part: its k most frequent classes.

    Vectors that say nothing about the items score less on average, or the same: any answer is given to items of all
    classes, as often as these occur in the part. Of a probe, a part is a fold, of few-shot classification an episode.
    """
    weights_n = torch.ones(len(label_n), dtype=torch.float64) if weights_n is None else weights_n.double()
    label_n, part_n = (torch.unique(names, return_inverse=True)[1] for names in (label_n, part_n))
    total_PK = torch.zeros(int(part_n.max()) + 1, int(label_n.max()) + 1, dtype=torch.float64)
    total_PK.index_put_((part_n, label_n), weights_n, accumulate=True)
    return float(total_PK.topk(min(k, total_PK.shape[1]), dim=1).values.sum() / weights_n.sum())
