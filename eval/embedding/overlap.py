"""Compares the modalities that a model encodes with those that the data have. An audio model is not evaluated on
pictures by their captions alone, and modalities that are left out are named."""

import sys
from collections.abc import Collection, Iterable

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.preflight.modalities import held_modalities
from tercet.data_pipelines.source import Source
from tercet.eval.embedding.embed import EvalError
from tercet.main_process import is_main_process


def check_overlap(split: SplitConfig, source: Source, encoded: Collection[str], found: Collection[str]) -> None:
    """Fails if the data have none of the model's modalities but text. `found`: modalities of the model in the data."""
    sensed = [modality for modality in encoded if modality != "text"]
    there = held_modalities(split, source)
    if unread(there, encoded) and sensed and not set(found) & set(sensed):
        raise EvalError(
            f"the model encodes {_joined(encoded)}, and {source.shard(0)} holds {_joined(there)}; name data with "
            f"{' or '.join(sensed)}, or another model"
        )


def report_unread(split: SplitConfig, source: Source, encoded: Collection[str]) -> None:
    left_out = unread(held_modalities(split, source), encoded)
    if left_out and is_main_process():
        message = f"{_joined(left_out)} is left out: the model has no encoder for it"
        print(f"tercet: {source.shard(0)}: {message}", file=sys.stderr)


def unread(there: Iterable[str], encoded: Collection[str]) -> list[str]:
    return [modality for modality in there if modality not in encoded]


def _joined(modalities: Iterable[str]) -> str:
    return " and ".join(modalities)
