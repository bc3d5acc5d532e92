"""How given data stand in a recipe: what is learnt from, what is held out, and which samples count as the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.configs.base import build
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.manifests.find import is_manifest
from tercet.data_pipelines.shards.find import find_shards
from tercet.training.proposal.choice import Choice
from tercet.training.proposal.seen import DataSummary

SHARE = 0.1
EXAMINED = 5_000  # samples to be examined on: the interval around a share of them is then 2.8 points wide at most
LISTED = 64  # shards that a recipe names one by one
CLASSES = 20  # so few are all learnt, and samples of each are held out
REPEATED = 0.05  # share of captions or pictures that come again, from which on equal ones are kept apart from the rest
TRAIN, VAL = "train", "val"


@dataclass(frozen=True)
class Splits:
    """What is learnt from, and what is not: another source, or a share of the same one."""

    train: str | list[str]
    val: str | list[str] | None
    why: str
    divides: bool = False  # what is held out is a share of the samples of `train`
    said: Mapping[str, Any] = field(default_factory=dict)  # of columns and the like, by whoever asked

    @property
    def learnt(self) -> SplitConfig:
        """What is learnt from, as a recipe would say it; with all that a share would hold out."""
        return build(SplitConfig, {"source": self.train, **self.said}, lambda key: "command line")


def layout_of(data: str, said: Mapping[str, Any]) -> Splits:
    """Folders `train` and `val` are what they say; of shards the last ones are held out, of tables some of the rows."""
    folder = Path(data)
    if all((folder / split).is_dir() for split in (TRAIN, VAL)):
        why = f"the folders {TRAIN} and {VAL} in {data}"
        return Splits(str(folder / TRAIN), str(folder / VAL), why, said=said)
    if is_manifest(data):
        return Splits(data, None, "what was given", divides=True, said=said)
    shards = find_shards(data)
    held = round(len(shards) * SHARE) or 1
    if 1 < len(shards) <= LISTED:
        why = f"all of {len(shards)} shards but the last {held}"
        return Splits(shards[:-held], shards[-held:], why, said=said)
    return Splits(data, None, "what was given", said=said)


def held_out(layout: Splits, seen: DataSummary) -> float:
    """The share of the samples that is never learnt from."""
    return float(f"{min(SHARE, EXAMINED / seen.samples):.2g}") if layout.divides else 0.0


def splits(layout: Splits, seen: DataSummary) -> Iterator[Choice]:
    yield Choice("data.source", layout.train, layout.why)
    for key, value in layout.said.items():
        yield Choice(f"data.{key}", value, "as was asked")
    group = _group(layout, seen)
    if group:
        yield Choice("data.group", group, GROUPS[group])
    if layout.val:
        said = {**layout.said, "group": group} if group else layout.said
        yield Choice("data.val", {"source": layout.val, **said} if said else layout.val, "never learnt from")
    else:
        yield Choice("data.held_out", held_out(layout, seen), _why_held_out(layout, seen, group))
        if layout.divides and _few_classes(layout, seen):
            why = f"all of {seen.classes} classes are learnt; what is held out is new pictures or sounds of them"
            yield Choice("data.split_by", "file", why)


GROUPS = {
    "image": "some pictures come again: rows of one picture are never each other's negatives",
    "text": "some captions come again: rows that say the same are never each other's negatives",
}


def _group(layout: Splits, seen: DataSummary) -> str | None:
    """What is shown or said again must not be pushed away from itself."""
    if "group" in layout.said:
        return None
    if seen.twice.get("image", 0) > REPEATED * seen.samples:
        return "image"
    return "text" if seen.captions - seen.different > REPEATED * seen.captions else None


def _few_classes(layout: Splits, seen: DataSummary) -> bool:
    return _group(layout, seen) == "text" and 0 < (seen.classes or 0) < CLASSES


def _why_held_out(layout: Splits, seen: DataSummary, group: str | None) -> str:
    if not layout.divides:
        return "shards are not divided; to be examined, name others by data.val"
    share = held_out(layout, seen)
    whole = {"text": " of the captions", "image": " of the pictures"}.get(group or "", "")
    whole = " of the samples" if _few_classes(layout, seen) else whole
    enough = "" if share == SHARE else f"; about {EXAMINED:,} samples are enough"
    return f"the share{whole} that is never learnt from{enough}"
