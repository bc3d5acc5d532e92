"""How given data stand in a recipe: what is learnt from, and what is held out to be examined on."""

from collections.abc import Iterator
from pathlib import Path

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.shards.find import find_shards
from tercet.training.proposal.choice import Choice, values_of

HELD_OUT = 0.1
EXAMINED = 5_000  # samples are enough to be examined on: an interval of 95 % is then 2.8 points wide at most
LISTED = 64  # shards that a recipe names one by one
TRAIN, VAL = "train", "val"


def splits(data: str) -> Iterator[Choice]:
    """Folders `train` and `val` are what they say; of other shards the last ones are held out."""
    folder = Path(data)
    if all((folder / split).is_dir() for split in (TRAIN, VAL)):
        yield Choice("data.train", str(folder / TRAIN), "the folder of this name")
        yield Choice("data.val", str(folder / VAL), "the folder of this name, which is never learnt from")
        return
    shards = find_shards(data)
    held = round(len(shards) * HELD_OUT) or 1
    if 1 < len(shards) <= LISTED:
        yield Choice("data.train", shards[:-held], f"all shards but the last {held}")
        yield Choice("data.val", shards[-held:], f"one in {len(shards) / held:.0f}: never learnt from")
    else:
        mend = "split it, or name" if len(shards) == 1 else "name"
        yield Choice("data.train", data, f"{len(shards)} shards; to be examined, {mend} others by data.val")


def opened(choices: list[Choice]) -> DataConfig:
    return DataConfig.model_validate(values_of(choices)["data"])
