"""What the metrics tell about a selection: the scores of samples, how many are bad, and what it costs.

Shapes: n samples of this rank, c classes of samples.
"""

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.training.loop.flops import Flops, reduced_of, rows_of
from tercet.training.selection.rule import SuperBatch
from tercet.training.selection.strata import Kept


def measures(drawn: SuperBatch, kept: Kept, bad: str | None = None) -> dict[str, float]:
    """The measures of one step over all ranks, by name, with those of the rule. A collective.

    - `score_chosen` and `score_left`: the mean score of the chosen samples and of those that were left.
    - `bad_chosen` and `bad_drawn`: the share of known bad samples among the chosen and among all. `bad` is the name of
      the mark in `data.values`.
    """
    kept_n = torch.zeros(len(drawn.batch), dtype=torch.bool, device=drawn.batch.ids.device)
    kept_n[kept.places] = True
    means: dict[str, tuple[Tensor, Tensor]] = {}  # the values to average, and which samples count
    if kept.scores is not None:
        score_n = kept.scores.double()
        scored_n = score_n.isfinite()
        means[f"{kept.scored}_chosen"] = score_n, kept_n & scored_n
        means[f"{kept.scored}_left"] = score_n, ~kept_n & scored_n
    if bad is not None:
        bad_n = drawn.batch.values[bad].double()
        means["bad_chosen"] = bad_n, kept_n
        means["bad_drawn"] = bad_n, torch.ones_like(kept_n)
    if not means:
        return dict(kept.measures)
    sums = [
        torch.stack([torch.where(counted_n, value_n, 0).sum(), counted_n.sum()])
        for value_n, counted_n in means.values()
    ]
    sum_c, count_c = drawn.learner.world.sum(torch.stack(sums)).unbind(dim=1)
    found = dict(zip(means, (sum_c / count_c).tolist(), strict=True))
    return {**{name: value for name, value in found.items() if value == value}, **kept.measures}


def costs(drawn: SuperBatch, chosen: Batch, learner: Flops, scoring: int) -> dict[str, float]:
    """The FLOPs of one step over all ranks, by name. `scoring`: those of scoring this rank's samples. A collective.

    - `flops_scoring`, `flops_training`: those of scoring the drawn samples, and of training on the chosen ones.
    - `flops_ratio`: the sum of both, relative to training on as many samples without selection.
    """
    share = len(chosen) / len(drawn.batch)
    own = [
        scoring,
        learner.training(rows_of(chosen), reduced_of(chosen)),
        share * learner.training(rows_of(drawn.batch)),
    ]
    world = drawn.learner.world
    scored, trained, uniform = world.sum(torch.tensor(own, dtype=torch.float64, device=world.device)).tolist()
    return {"flops_scoring": scored, "flops_training": trained, "flops_ratio": (scored + trained) / uniform}
