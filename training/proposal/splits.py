"""How a proposed recipe reads the data: what it trains on, what it holds out, and which samples belong together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.configs.base import build
from tercet.data_pipelines.config import SplitConfig
from tercet.training.proposal.choice import Choice
from tercet.training.proposal.seen import DataSummary

SHARE = 0.1
EXAMINED = 5_000  # held-out samples are enough: the interval of a share of them is 2.8 points wide at most
CLASSES = 20  # of fewer classes, a run trains on all
REPEATED = 0.05  # share of captions or pictures that are repeated, above which equal ones form groups
TRAIN, VAL = "train", "val"


@dataclass(frozen=True)
class Splits:
    """What the run trains on, and what it holds out: another source or, without one, a share of the same source."""

    train: str | list[str]
    val: str | list[str] | None
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)  # options that the user gave, such as columns

    @property
    def training_split(self) -> SplitConfig:
        """The source to train on, with the samples that the run will hold out."""
        return build(SplitConfig, {"source": self.train, **self.options}, lambda key: "command line")


def layout_of(data: str, options: Mapping[str, Any]) -> Splits:
    """The folders `train` and `val` where data has both; else a share of data is held out."""
    folder = Path(data)
    if all((folder / split).is_dir() for split in (TRAIN, VAL)):
        why = f"the folders {TRAIN} and {VAL} in {data}"
        return Splits(str(folder / TRAIN), str(folder / VAL), why, options=options)
    return Splits(data, None, "the data that you gave", options=options)


def held_out(layout: Splits, seen: DataSummary) -> float:
    """The share of the samples that the run does not train on; 0 where other data are for that."""
    return 0.0 if layout.val else float(f"{min(SHARE, EXAMINED / seen.samples):.2g}")


def splits(layout: Splits, seen: DataSummary) -> Iterator[Choice]:
    yield Choice("data.source", layout.train, layout.why)
    for key, value in layout.options.items():
        yield Choice(f"data.{key}", value, "as you asked")
    group = _group(layout, seen)
    if group:
        yield Choice("data.group", group, GROUPS[group])
    if layout.val:
        options = {**layout.options, "group": group} if group else layout.options
        yield Choice("data.val", {"source": layout.val, **options} if options else layout.val, "for evaluation alone")
    else:
        yield Choice("data.held_out", held_out(layout, seen), _why_held_out(layout, seen, group))
        if _few_classes(layout, seen):
            why = f"trains on all of {seen.classes} classes, and holds out other pictures or sounds of them"
            yield Choice("data.split_by", "file", why)


GROUPS = {
    "image": "some pictures are repeated: rows of one picture are never each other's negatives",
    "text": "some captions are repeated: rows with the same caption are never each other's negatives",
}


def _group(layout: Splits, seen: DataSummary) -> str | None:
    """By what samples form groups, so that repeated pictures or captions are not each other's negatives."""
    if "group" in layout.options:
        return None
    if seen.twice.get("image", 0) > REPEATED * seen.samples:
        return "image"
    return "text" if seen.captions - seen.different > REPEATED * seen.captions else None


def _few_classes(layout: Splits, seen: DataSummary) -> bool:
    return _group(layout, seen) == "text" and 0 < (seen.classes or 0) < CLASSES


def _why_held_out(layout: Splits, seen: DataSummary, group: str | None) -> str:
    share = held_out(layout, seen)
    whole = {"text": " of the captions", "image": " of the pictures"}.get(group or "", "")
    whole = " of the samples" if _few_classes(layout, seen) else whole
    enough = "" if share == SHARE else f"; about {EXAMINED:,} samples are enough"
    return f"the share{whole} that the run does not train on, for evaluation{enough}"
