"""Trains a scorer: each step weighs a batch, takes an inner step, and follows the slope of the loss on the target.

It departs from the paper in the model of the inner step: the vectors of a fixed model, and a projection for each
modality, which starts as the identity and is trained. So the data are embedded once, and no gradient passes through a
tower.

Shape letters: N pairs, F features, d dimensions.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.seeding import keyed
from tercet.errors import UserError
from tercet.training.flyt.config import LearnConfig
from tercet.training.flyt.inner_step import Pairs, Parameters, inner_step


def learn(scorer: nn.Module, feature_NF: Tensor, pairs: Pairs, target: Pairs, config: LearnConfig) -> list[float]:
    """Trains `scorer`, which reads features of the pairs. Returns the loss on a batch of the target after each step."""
    check_sizes(len(pairs), len(target), config)
    optimizer = torch.optim.Adam(scorer.parameters(), lr=config.lr)
    dim = pairs.one_Nd.shape[1]
    parameters: Parameters = {side: torch.eye(dim, dtype=pairs.one_Nd.dtype) for side in ("one", "other")}
    own, others = (
        rows("pairs", len(pairs), config.batch_size, config),
        rows("t", len(target), config.target_batch, config),
    )
    losses = []
    for _ in with_progress(range(config.steps), "learning", config.steps):
        row_n = next(own)
        score_n = scorer(feature_NF[row_n])
        batches = pairs.rows(row_n), target.rows(next(others))
        found = inner_step(projected, parameters, batches[0], score_n, batches[1], config.inner_lr, config.scale)
        losses.append(float(found.loss))
        if not torch.isfinite(found.slope_N).all():
            raise UserError("the loss on the target is not finite; lower --inner-lr or --scale")
        optimizer.zero_grad()
        score_n.backward(found.slope_N / found.slope_N.norm().clamp(min=1e-12))  # Adam does not depend on its size
        optimizer.step()
        parameters = found.parameters
    return losses


def projected(parameters: Parameters, pairs: Pairs) -> tuple[Tensor, Tensor]:
    sides = (pairs.one_Nd @ parameters["one"].T, pairs.other_Nd @ parameters["other"].T)
    return normalize(sides[0], dim=1), normalize(sides[1], dim=1)


def check_sizes(pairs: int, target: int, config: LearnConfig) -> None:
    for what, found, key in (("data", pairs, "batch_size"), ("target", target, "target_batch")):
        if found < getattr(config, key):
            flag = key.replace("_", "-")
            raise UserError(
                f"the {what} have {found:,} pairs, but --{flag} is {getattr(config, key):,}; set it to {found} or less"
            )


def rows(purpose: str, count: int, size: int, config: LearnConfig) -> Iterator[Tensor]:
    """Batches of rows, each row once in an epoch, without an incomplete last batch."""
    epoch = 0
    while True:
        order = torch.from_numpy(keyed(f"flyt {purpose}", config.seed, epoch).permutation(count))
        yield from torch.split(order, size)[: count // size]
        epoch += 1
