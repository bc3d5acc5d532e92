"""What a model reads of data. Captions alone are common to pictures and sounds: where there is nothing else, both are
named, and where some of the data is left out, that is said."""

import sys
from collections.abc import Collection, Iterable

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.preflight.modalities import held
from tercet.data_pipelines.source import Source
from tercet.errors import UserError
from tercet.main_process import is_main_process


def check_overlap(split: SplitConfig, source: Source, encoded: Collection[str], found: Collection[str]) -> None:
    """A model of sounds is not examined on pictures by their captions: `found` is what of its modalities was there."""
    sensed = [modality for modality in encoded if modality != "text"]
    there = held(split, source)
    if unread(there, encoded) and sensed and not set(found) & set(sensed):
        raise UserError(
            f"the model reads {_told(encoded)}, and {source.shard(0)} holds {_told(there)}; name data with "
            f"{' or '.join(sensed)}, or another model"
        )


def tell_unread(split: SplitConfig, source: Source, encoded: Collection[str]) -> None:
    left_out = unread(held(split, source), encoded)
    if left_out and is_main_process():
        said = f"{_told(left_out)} is left out: the model has no tower for it"
        print(f"tercet: {source.shard(0)}: {said}", file=sys.stderr)


def unread(there: Iterable[str], encoded: Collection[str]) -> list[str]:
    return [modality for modality in there if modality not in encoded]


def _told(modalities: Iterable[str]) -> str:
    return " and ".join(modalities)
