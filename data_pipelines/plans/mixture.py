"""How many samples of a batch come from each source: a function of the plan and of the position in each source.

`within_batches` mixes sources in each batch, by the method of largest remainders. `between_batches` takes each batch
from one source (ZeroVL, Cui et al. 2022): the same method assigns every 100 batches to sources, in shuffled order. When
a source that does not repeat ends, the other sources fill its share.
"""

import math
from collections.abc import Sequence

import numpy as np

from tercet.data_pipelines.plans.plan import Plan, SourceShare
from tercet.data_pipelines.seeding import keyed
from tercet.errors import UserError

ROUND = 100  # batches that are assigned to sources together


def quotas(plan: Plan, cursors: Sequence[int], batch_size: int) -> list[int]:
    """The samples that the next batch takes from each source; empty if the sources cannot fill a batch."""
    left = [_left(share, at) for share, at in zip(plan.shares, cursors, strict=True)]
    weights = [share.weight for share in plan.shares]
    if plan.mix == "between_batches":
        open_weights = [weight * (rest >= batch_size) for weight, rest in zip(weights, left, strict=True)]
        return _turn(plan.seed, open_weights, sum(cursors) // batch_size, batch_size) if any(open_weights) else []
    return _filled(weights, left, batch_size) if sum(left) >= batch_size else []


def check_weights(plan: Plan, batch_size: int) -> None:
    """Refuses a weight so small that the source would never give a sample."""
    within = plan.mix == "within_batches"
    places, whole = (batch_size, f"batch of {batch_size}") if within else (ROUND, f"round of {ROUND} batches")
    for share, part in zip(plan.shares, apportion([share.weight for share in plan.shares], places), strict=True):
        if part == 0:
            raise UserError(
                f"data.train.{share.name}.weight is so small that no {whole} has a place for it; raise it, or the "
                "temperature of `data.weights`"
            )


def apportion(weights: Sequence[float], total: int) -> list[int]:
    """Divides `total` by weight, with the method of largest remainders; of equal remainders, the first wins."""
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    parts = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def _left(share: SourceShare, cursor: int) -> float:
    return math.inf if share.repeat else max(share.samples - cursor, 0)  # negative if it repeated under an earlier plan


def _filled(weights: Sequence[float], left: Sequence[float], batch_size: int) -> list[int]:
    """Quotas by weight. If a source has too few samples left, the other sources give more."""
    taken = [0] * len(weights)
    while missing := batch_size - sum(taken):
        spaces = [min(missing, rest - had) for rest, had in zip(left, taken, strict=True)]
        given = apportion([weight * (space > 0) for weight, space in zip(weights, spaces, strict=True)], missing)
        taken = [had + int(min(more, space)) for had, more, space in zip(taken, given, spaces, strict=True)]
    return taken


def _turn(seed: int, weights: Sequence[float], batch: int, batch_size: int) -> list[int]:
    number, place = divmod(batch, ROUND)
    turns = np.repeat(np.arange(len(weights)), apportion(weights, ROUND))
    turn = keyed("turns", seed, number).permutation(turns)[place]
    return [batch_size if source == turn else 0 for source in range(len(weights))]
