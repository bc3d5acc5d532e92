"""Chooses how to train, and the numbers of the recipe, from facts about the data and the machine."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tercet.errors import UserError
from tercet.training.proposal.choice import Choice
from tercet.training.proposal.machine import Machine
from tercet.training.proposal.seen import DataSummary
from tercet.training.proposal.ways import BOTTLENECK, BOTTLENECK_OF_SOUNDS, SMALL, Way, tuned, ways_for

EPOCH = 8  # steps at least
FEWEST = 8  # pairs in a batch
WARM = 10  # the warm-up takes at most this part of all steps
SHORTEST = 100  # steps of a warm-up that is a share

FROM_NOTHING = (
    "this run does not start from pretrained weights. Small towers learn from these pairs alone, and few pairs teach "
    "them little: see whether the report calls them above ridge regression on simple features, and give --init MODEL "
    "when you have weights"
)

Reachable = Callable[[str], bool]  # whether a recipe's weights are on this machine or can be downloaded


@dataclass(frozen=True)
class Chosen:
    """A way to train, and the reasons for it."""

    way: Way
    reasons: tuple[str, ...]

    @property
    def caution(self) -> str | None:
        """What to expect of a run that starts from nothing."""
        return FROM_NOTHING if self.way is SMALL else None


def choose_way(
    seen: DataSummary, pairs: int, machine: Machine, reachable: Reachable, init: str | None = None
) -> Chosen:
    """The first way of the scale without an objection. With `init`, only ways that start from weights."""
    against: dict[str, str] = {}  # an objection to several ways is listed once, with the first of them
    for way in tuned(pairs, seen.modalities) if init else ways_for(pairs, seen.modalities):
        objection = _objection(way, machine, reachable)
        if objection is None:
            break
        against.setdefault(objection, way.title)
    else:
        held = ", ".join(sorted(seen.modalities))
        raise UserError(f"--init {init}: no recipe starts from weights for {held}; leave --init out")
    objections = (f"not {title}, because {objection}" for objection, title in against.items())
    return Chosen(way, (f"{way.title}: {way.why}", *objections))


def _objection(way: Way, machine: Machine, reachable: Reachable) -> str | None:
    if way.recipe is None:
        return None
    if not machine.gpus and way not in (BOTTLENECK, BOTTLENECK_OF_SOUNDS):
        return "without a GPU, backpropagation through large towers takes too long"
    if way.pretrained and not reachable(way.recipe):
        return f"the weights that `{way.recipe}` starts from are not on this machine and cannot be downloaded"
    return None


def training(way: Way, pairs: int, machine: Machine) -> Iterator[Choice]:
    """Batch size, steps and optimizer, each with the source of its number."""
    batch = batch_size(way, pairs)
    steps = math.ceil(way.epochs * pairs / batch)
    sources = way.sources
    fewer = "" if batch == way.batch_size else f"less than {way.batch_size:,}, so that an epoch has more steps; "
    yield Choice("batch_size", batch, fewer + sources["batch_size"])
    yield Choice("steps", steps, f"{way.epochs} epochs of {pairs:,} pairs; {sources['epochs']}")
    yield Choice("optimizer.lr", way.lr, sources["lr"])
    yield Choice("optimizer.betas", list(way.betas), sources["betas"])
    yield Choice("optimizer.eps", way.eps, f"the usual one with β₂ = {way.betas[1]:g}")
    yield Choice("optimizer.weight_decay", way.weight_decay, sources["weight_decay"])
    yield Choice("schedule.warmup", *warmup(way, steps))
    yield precision(machine)


def batch_size(way: Way, pairs: int) -> int:
    """A power of two, small enough for several steps in an epoch."""
    return max(FEWEST, min(way.batch_size, 1 << int(math.log2(max(pairs / EPOCH, 1)))))


def warmup(way: Way, steps: int) -> tuple[int, str]:
    usual = way.warmup if isinstance(way.warmup, int) else max(SHORTEST, round(way.warmup * steps))
    most = steps // WARM
    shorter = f"a tenth of the steps, because {usual} would be more; " if usual > most else ""
    return min(usual, most), shorter + way.sources["warmup"]


def precision(machine: Machine) -> Choice:
    if machine.gpus:
        return Choice("precision", "bf16", "fastest on GPUs; the weights stay in fp32")
    return Choice("precision", "fp32", "bf16 is faster only on CPUs that have instructions for it")
