"""Samples to a batch: the rows that exist, packed, with the item that each belongs to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch, Field, Intake, Media, Sample, TextIntake, channels_first


def collate(samples: Sequence[Sample], intakes: Mapping[str, Intake]) -> Batch:
    """A batch with every field of `intakes`, also those that no sample has: they keep their shape with no rows."""
    return Batch(
        ids=torch.tensor([sample.id for sample in samples], dtype=torch.int64),
        groups=torch.tensor([sample.group for sample in samples], dtype=torch.int64),
        fields={name: _field(samples, name, intake) for name, intake in intakes.items()},
    )


def undecoded(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples without the media that their batch holds already."""
    return tuple(replace(sample, media={}) for sample in samples)


def _field(samples: Sequence[Sample], name: str, intake: Intake) -> Field:
    if isinstance(intake, TextIntake):
        return _texts({i: sample.text[0] for i, sample in enumerate(samples) if sample.text}, intake)
    rows = {i: sample.media[name] for i, sample in enumerate(samples) if name in sample.media}
    return _ragged(name, rows, intake) if intake.ragged else _stacked(name, rows, intake)


def _stacked(name: str, rows: Mapping[int, Media], intake: Intake) -> Field:
    values = torch.empty(len(rows), *intake.shape, dtype=getattr(torch, intake.dtype))
    for row, media in enumerate(rows.values()):
        values[row] = torch.from_numpy(media)
    return Field(name, channels_first(values, intake), _items(rows))


def _ragged(name: str, rows: Mapping[int, Media], intake: Intake) -> Field:
    """Padded with silence to the intake's window, or to the longest where clips are whole."""
    window, *rest = intake.shape
    lengths = [len(media) for media in rows.values()]
    values = torch.zeros(len(rows), max([window, *lengths]), *rest, dtype=getattr(torch, intake.dtype))
    for row, media in enumerate(rows.values()):
        values[row, : len(media)] = torch.from_numpy(media)
    return Field(name, values, _items(rows), torch.tensor(lengths, dtype=torch.int64))


def _texts(rows: Mapping[int, str], intake: TextIntake) -> Field:
    captions = list(rows.values())
    values_nL = intake.tokenize(captions) if captions else intake.tokenize([""])[:0]
    return Field("text", values_nL, _items(rows))


def _items(rows: Mapping[int, object]) -> Tensor:
    return torch.tensor(list(rows), dtype=torch.int64)
