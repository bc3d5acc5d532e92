"""How many samples of a batch each source gives: a function of the plan and of where every source stands.

Within batches the quotas are exact, by the method of largest remainders. Between batches each batch is of one source
(ZeroVL, Cui et al. 2022), and the batches of a round of a hundred are dealt by the same method and shuffled. A source
that does not repeat gives what it has, and the others fill its place.
"""

import math
from collections.abc import Sequence

import numpy as np

from tercet.data_pipelines.plans.plan import Plan, Share
from tercet.data_pipelines.seeding import keyed
from tercet.errors import UserError

ROUND = 100  # batches among which sources take turns


def quotas(plan: Plan, cursors: Sequence[int], batch_size: int) -> list[int]:
    """Samples that the next batch takes from each source, after so many of each before. No source left: nothing."""
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
            raise UserError(f"data.train.{share.name}.weight is so small that no {whole} has a place for it; raise it")


def apportion(weights: Sequence[float], total: int) -> list[int]:
    """`total` dealt by weight: whole parts, and the rest by largest remainder, the first of equals."""
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    parts = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def _left(share: Share, cursor: int) -> float:
    return math.inf if share.repeat else max(share.samples - cursor, 0)  # it may have repeated under an earlier plan


def _filled(weights: Sequence[float], left: Sequence[float], batch_size: int) -> list[int]:
    """Quotas by weight; what a source no longer has is dealt among those that have more."""
    taken = [0] * len(weights)
    while missing := batch_size - sum(taken):
        room = [min(missing, rest - had) for rest, had in zip(left, taken, strict=True)]
        given = apportion([weight * (space > 0) for weight, space in zip(weights, room, strict=True)], missing)
        taken = [had + int(min(more, space)) for had, more, space in zip(taken, given, room, strict=True)]
    return taken


def _turn(seed: int, weights: Sequence[float], batch: int, batch_size: int) -> list[int]:
    number, place = divmod(batch, ROUND)
    turns = np.repeat(np.arange(len(weights)), apportion(weights, ROUND))
    turn = keyed("turns", seed, number).permutation(turns)[place]
    return [batch_size if source == turn else 0 for source in range(len(weights))]
