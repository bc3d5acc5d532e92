"""Samples to a batch: the rows that exist, packed, with the item that each belongs to.

Shape letters: n rows, H height, W width, T audio samples, L tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tercet.data_pipelines.sample import AudioIntake, Batch, Field, ImageIntake, Intake, Sample, TextIntake


def collate(samples: Sequence[Sample], intakes: Mapping[str, Intake]) -> Batch:
    """A batch with every field of `intakes`, also those that no sample has: they keep their shape with no rows."""
    return Batch(
        ids=torch.tensor([sample.id for sample in samples], dtype=torch.int64),
        groups=torch.tensor([sample.group for sample in samples], dtype=torch.int64),
        fields={name: _field(samples, intake) for name, intake in intakes.items()},
    )


def undecoded(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples without the tensors that their batch holds already."""
    return tuple(replace(sample, image=None, audio=None) for sample in samples)


def _field(samples: Sequence[Sample], intake: Intake) -> Field:
    if isinstance(intake, ImageIntake):
        return _images({i: sample.image for i, sample in enumerate(samples) if sample.image is not None}, intake)
    if isinstance(intake, AudioIntake):
        return _sounds({i: sample.audio for i, sample in enumerate(samples) if sample.audio is not None}, intake)
    return _texts({i: sample.text[0] for i, sample in enumerate(samples) if sample.text}, intake)


def _images(rows: Mapping[int, NDArray[np.uint8]], intake: ImageIntake) -> Field:
    """Pictures stay as they were decoded, channels last."""
    values_nHW3 = torch.empty(len(rows), *intake.size, 3, dtype=torch.uint8)
    for row, image in enumerate(rows.values()):
        values_nHW3[row] = torch.from_numpy(image)
    return Field("image", values_nHW3.permute(0, 3, 1, 2), _items(rows))


def _sounds(rows: Mapping[int, NDArray[np.float32]], intake: AudioIntake) -> Field:
    """Waves padded with silence to the intake's window, or to the longest where clips are whole."""
    lengths = [len(wave) for wave in rows.values()]
    values_nT = torch.zeros(len(rows), max([intake.window, *lengths]))
    for row, wave in enumerate(rows.values()):
        values_nT[row, : len(wave)] = torch.from_numpy(wave)
    return Field("audio", values_nT, _items(rows), torch.tensor(lengths, dtype=torch.int64))


def _texts(rows: Mapping[int, str], intake: TextIntake) -> Field:
    captions = list(rows.values())
    values_nL = intake.tokenize(captions) if captions else intake.tokenize([""])[:0]
    return Field("text", values_nL, _items(rows))


def _items(rows: Mapping[int, object]) -> Tensor:
    return torch.tensor(list(rows), dtype=torch.int64)
