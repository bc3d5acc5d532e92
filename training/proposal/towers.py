"""Chooses the towers: those of the base recipe, or small ones that suit the data."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from tercet.training.proposal.choice import Choice
from tercet.training.proposal.choose import Chosen
from tercet.training.proposal.machine import Machine
from tercet.training.proposal.seen import DataSummary
from tercet.training.proposal.ways import BOTTLENECK, BOTTLENECK_OF_SOUNDS, DEMO, GAO

CONTEXT = 32  # words that the small text tower reads by default
LONGEST = 128
SECONDS = (1.5, 10.0)  # of a small audio tower's crop
SIDE = {"cpu": 64, "gpu": 128}  # pixels of a small image tower's pictures


def towers(chosen: Chosen, seen: DataSummary, machine: Machine) -> Iterator[Choice]:
    """The parts of the model that the base recipe leaves open."""
    if chosen.way in (BOTTLENECK, BOTTLENECK_OF_SOUNDS):
        yield from _bottlenecks(seen)
    elif chosen.way.recipe is None:
        yield from _small_towers(seen, machine)
        yield from _pairs(seen.modalities)


def _bottlenecks(seen: DataSummary) -> Iterator[Choice]:
    locked = {"unlocked": 0, "adapter": {"reduction": 4, "ratio": 0.2}}
    for modality in sorted(seen.modalities):
        yield Choice(f"model.{modality}", locked, f"the tower stays as it is; reduction and ratio as in {GAO}")


def _small_towers(seen: DataSummary, machine: Machine) -> Iterator[Choice]:
    yield Choice("model.dim", 128, f"as {DEMO}: the width of the small towers")
    if "image" in seen.modalities:
        side = SIDE["gpu" if machine.gpus else "cpu"]
        where = "fast enough on a GPU" if machine.gpus else "on a CPU, time grows with its square"
        yield Choice("model.image", {"encoder": "small:image", "size": side}, f"{side} pixels a side: {where}")
    if "audio" in seen.modalities:
        yield _small_audio(seen)
    if "text" in seen.modalities:
        yield _small_text(seen)


def _pairs(modalities: frozenset[str]) -> Iterator[Choice]:
    """Text is paired with each other modality. Other pairs have half the weight if there are captions."""
    ordered = [modality for modality in ("image", "audio", "text") if modality in modalities]
    weights = {f"{a}-{b}": 0.5 if b != "text" and "text" in modalities else 1.0 for a, b in combinations(ordered, 2)}
    why = "the modalities of the samples" + ("; weights as in the recipe `trimodal`" if len(weights) > 1 else "")
    yield Choice("pairs", weights, why)


def _small_audio(seen: DataSummary) -> Choice:
    least, most = SECONDS
    seconds = round(min(max(seen.seconds["p50"], least), most), 1)
    tower = {"encoder": "small:audio", "features": "small16k64", "seconds": seconds}
    why = f"crops of {seconds:g} s: half of the sounds last {seen.seconds['p50']:.3g} s or less"
    return Choice("model.audio", tower, why)


def _small_text(seen: DataSummary) -> Choice:
    tower: dict[str, Any] = {"encoder": "small:text", "options": {"depth": 1}}
    words = seen.words["p95"]
    if words >= CONTEXT:
        tower["options"]["context"] = min(LONGEST, 2 ** int(words).bit_length())
    read = tower["options"].get("context", CONTEXT)
    context = f"it reads {read} words, and 95 % of the captions have {words:.0f} or fewer"
    return Choice("model.text", tower, f"one block, as {DEMO}; {context}")
