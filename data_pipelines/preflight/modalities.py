"""Checks that the data hold the modalities that the loss terms need. Without them, the loss would be 0."""

from collections.abc import Collection, Mapping

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import MetaReader
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.source import Source
from tercet.errors import UserError
from tercet.modality import FILES

CHECKED = 1000  # samples of a source, evenly spaced
FIRST = 16  # samples that show what a source holds; for remote shards, this fetches only the first one


def check_modalities(
    splits: Mapping[str, SplitConfig], sources: Mapping[str, Source], modalities: Collection[str]
) -> None:
    """Refuses modalities that no sample holds. For each, it reads until a sample holds it, usually the first one."""
    for modality in modalities:
        used = [name for name in sources if not splits[name].fields or modality in splits[name].fields]
        places = ((name, id) for turn in range(CHECKED) for name in used for id in _turn(turn, len(sources[name])))
        if not any(_holds(splits[name], sources[name], id, modality) for name, id in places):
            checked = sum(min(len(sources[name]), CHECKED) for name in used)
            where = ", ".join(sources[name].shard(0) for name in used) or "any source"
            raise UserError(
                f"no sample of {where} holds {modality}, which the terms train ({checked:,} samples checked); "
                f"{'add captions' if modality == 'text' else 'add it'}, or leave {modality} out of `pairs` and `model`"
            )


def held_modalities(split: SplitConfig, source: Source) -> list[str]:
    """The modalities that the first samples of a source hold, of those that it is used for."""
    ids = range(min(len(source), FIRST))
    return [name for name in split.fields or FILES if any(_holds(split, source, id, name) for id in ids)]


def _turn(turn: int, samples: int) -> list[int]:
    """The id to check in this turn. A small source has none in the last turns."""
    count = min(samples, CHECKED)
    return [turn * samples // count] if turn < count else []


def _holds(split: SplitConfig, source: Source, id: int, modality: str) -> bool:
    if modality == "text":
        return _has_captions(source, id, CaptionReader(split.captions), MetaReader(split.sidecar))
    (files,) = source.read([id], FILES[modality])
    return not isinstance(files, BadSample) and bool(files)


def _has_captions(source: Source, id: int, captions_of: CaptionReader, meta_of: MetaReader) -> bool:
    (files,) = source.read([id], captions_of.wanted)
    if isinstance(files, BadSample):
        return False
    try:
        return bool(captions_of(files, meta_of(source.key(id), files)))
    except BadSample:
        return False
