"""From what was seen of the data and the machine to a way to train, and to the numbers of the recipe."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tercet.errors import UserError
from tercet.training.proposal.choice import Choice
from tercet.training.proposal.machine import Machine
from tercet.training.proposal.seen import DataSummary
from tercet.training.proposal.ways import BOTTLENECK, BOTTLENECK_OF_SOUNDS, Way, tuned, ways_for

EPOCH = 8  # steps that one is to have at least
FEWEST = 8  # pairs in a batch
WARM = 10  # the warm-up is no more than this part of all steps
SHORTEST = 100  # steps of a warm-up that is a share

Reachable = Callable[[str], bool]  # whether a recipe's weights are here or can be fetched


@dataclass(frozen=True)
class Chosen:
    """A way, and what led to it."""

    way: Way
    reasons: tuple[str, ...]


def choose_way(
    seen: DataSummary, pairs: int, machine: Machine, reachable: Reachable, init: str | None = None
) -> Chosen:
    """The first way of the scale that nothing stands against; whoever names weights goes on from them."""
    against: dict[str, str] = {}  # what is said of several ways is said of the first
    for way in tuned(pairs, seen.modalities) if init else ways_for(pairs, seen.modalities):
        objection = _objection(way, machine, reachable)
        if objection is None:
            break
        against.setdefault(objection, way.title)
    else:
        held = ", ".join(sorted(seen.modalities))
        raise UserError(f"--init {init}: no recipe goes on from weights for {held}; leave --init out")
    objections = (f"not {title}, because {objection}" for objection, title in against.items())
    return Chosen(way, (f"{way.title}: {way.why}", *objections))


def _objection(way: Way, machine: Machine, reachable: Reachable) -> str | None:
    if way.recipe is None:
        return None
    if not machine.gpus and way not in (BOTTLENECK, BOTTLENECK_OF_SOUNDS):
        return "without a GPU the way back through large towers takes too long"
    if way.pretrained and not reachable(way.recipe):
        return f"the weights that `{way.recipe}` begins from are neither here nor to be had from the network"
    return None


def training(way: Way, pairs: int, machine: Machine) -> Iterator[Choice]:
    """Batch, steps and the optimizer, each with where its number comes from."""
    batch = batch_size(way, pairs)
    steps = math.ceil(way.epochs * pairs / batch)
    sources = way.sources
    fewer = "" if batch == way.batch_size else f"{way.batch_size:,}, and less here so that an epoch has {EPOCH} steps; "
    yield Choice("batch_size", batch, fewer + sources["batch_size"])
    yield Choice("steps", steps, f"{way.epochs} epochs of {pairs:,} pairs; {sources['epochs']}")
    yield Choice("optimizer.lr", way.lr, sources["lr"])
    yield Choice("optimizer.betas", list(way.betas), sources["betas"])
    yield Choice("optimizer.eps", way.eps, f"goes with β₂ = {way.betas[1]:g}")
    yield Choice("optimizer.weight_decay", way.weight_decay, sources["weight_decay"])
    yield Choice("schedule.warmup", *warmup(way, steps))
    yield precision(machine)


def batch_size(way: Way, pairs: int) -> int:
    """A power of two, and no larger than leaves an epoch some steps."""
    return max(FEWEST, min(way.batch_size, 1 << int(math.log2(max(pairs / EPOCH, 1)))))


def warmup(way: Way, steps: int) -> tuple[int, str]:
    asked = way.warmup if isinstance(way.warmup, int) else max(SHORTEST, round(way.warmup * steps))
    most = steps // WARM
    shorter = f"a tenth of the steps, where {asked} would be more; " if asked > most else ""
    return min(asked, most), shorter + way.sources["warmup"]


def precision(machine: Machine) -> Choice:
    if machine.gpus:
        return Choice("precision", "bf16", "what GPUs are made for; the weights stay in fp32")
    return Choice("precision", "fp32", "bf16 pays only on a CPU that has units for it")
