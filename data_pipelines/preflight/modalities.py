"""Checks that the data hold the modalities that the terms train. Without them, the loss would just be 0."""

from collections.abc import Collection, Mapping

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.source import Source
from tercet.errors import UserError
from tercet.modality import FILES

LOOKED_AT = 1000  # samples of a source, evenly spaced
FIRST = 16  # samples that show what a source holds; for remote shards, this fetches only the first one


def check_held(splits: Mapping[str, SplitConfig], sources: Mapping[str, Source], modalities: Collection[str]) -> None:
    """Refuses modalities that no sample holds. It stops at the first sample that does, usually the first of all."""
    for modality in modalities:
        asked = [name for name in sources if not splits[name].fields or modality in splits[name].fields]
        looks = ((name, id) for turn in range(LOOKED_AT) for name in asked for id in _turn(turn, len(sources[name])))
        if not any(_holds(splits[name], sources[name], id, modality) for name, id in looks):
            looked_at = sum(min(len(sources[name]), LOOKED_AT) for name in asked)
            where = ", ".join(sources[name].shard(0) for name in asked) or "any source"
            raise UserError(
                f"no sample of {where} holds {modality}, which the terms train ({looked_at:,} samples checked); "
                f"{'add captions' if modality == 'text' else 'add it'}, or leave {modality} out of `pairs` and `model`"
            )


def held(split: SplitConfig, source: Source) -> list[str]:
    """The modalities that a source is used for, if its first samples hold them."""
    ids = range(min(len(source), FIRST))
    return [name for name in split.fields or FILES if any(_holds(split, source, id, name) for id in ids)]


def _turn(turn: int, samples: int) -> list[int]:
    """The id to check in this turn; a source of fewer samples has none in the last turns."""
    count = min(samples, LOOKED_AT)
    return [turn * samples // count] if turn < count else []


def _holds(split: SplitConfig, source: Source, id: int, modality: str) -> bool:
    if modality == "text":
        return _has_captions(source, id, CaptionReader(split.captions))
    (files,) = source.read([id], FILES[modality])
    return not isinstance(files, BadSample) and bool(files)


def _has_captions(source: Source, id: int, captions_of: CaptionReader) -> bool:
    (files,) = source.read([id], captions_of.wanted)
    if isinstance(files, BadSample):
        return False
    try:
        return bool(captions_of(files, decode_meta(files["json"]) if "json" in files else {}))
    except BadSample:
        return False
