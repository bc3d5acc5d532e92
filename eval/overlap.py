"""What a model reads of data. Captions alone are common to pictures and sounds: where there is nothing else, both are
named, and where some of the data is left out, that is said."""

import sys
from collections.abc import Collection, Iterable

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.held import held
from tercet.data_pipelines.source import Source
from tercet.errors import UserError
from tercet.speaker import speaks


def check_overlap(split: SplitConfig, source: Source, encoded: Collection[str]) -> None:
    """A model of sounds is not examined on pictures by their captions."""
    there = held(split, source)
    if set(there) - {*encoded, "text"} and not set(there) & set(encoded) - {"text"}:
        raise UserError(_strangers(source, there, encoded))


def tell_unread(split: SplitConfig, source: Source, encoded: Collection[str]) -> None:
    there = held(split, source)
    unread = [modality for modality in there if modality not in encoded]
    if unread and len(unread) == len(there):
        raise UserError(_strangers(source, there, encoded))
    if unread and speaks():
        print(f"tercet: {source.shard(0)}: {_told(unread)} is left out: the model has no tower for it", file=sys.stderr)


def _strangers(source: Source, there: Iterable[str], encoded: Collection[str]) -> str:
    wanted = " or ".join(modality for modality in encoded if modality != "text") or "text"
    return (
        f"the model reads {_told(encoded)}, and {source.shard(0)} holds {_told(there)}; name data with {wanted}, "
        "or another model"
    )


def _told(modalities: Iterable[str]) -> str:
    return " and ".join(modalities)
