"""Makes batches from samples: writes the rows of each sample into arrays, and returns these as a batch.

Several processes may write into one batch, each the rows of its own samples.

Shape letters: B items, R rows that an item may have at most, n rows that exist.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from tercet.data_pipelines.batches.buffers import Arrays, BufferColumn, BufferLayout
from tercet.data_pipelines.captions.reader import within
from tercet.data_pipelines.fields import FieldSpec, own_fields
from tercet.data_pipelines.sample import (
    AudioIntake,
    Batch,
    FeatureIntake,
    Field,
    Intake,
    Sample,
    TextIntake,
    channels_first,
)
from tercet.data_pipelines.transforms.config import HideConfig

SEED = "seed"  # the name of the array of keys of views


def without_media(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples without their media, which the batch holds already."""
    return tuple(replace(sample, media={}) for sample in samples)


def number(meta: Mapping[str, object], place: str) -> float:
    """The finite number at `json.KEY`; 1 if there is none."""
    value = within(meta, place)
    return float(value) if isinstance(value, int | float) and isfinite(value) else 1.0


class BatchMaker:
    """Lays out the arrays of a batch: for each field its rows, and how many of them each item has.

    `further`: the fields that the recipe adds to the modalities. `masks`: how many spectrogram masks each sound has.
    `values`: where in the metadata further numbers of each sample are, by name. `seeds`: the batch has the key of the
    view of each item. `epochs`: it also has the epoch of each.
    """

    def __init__(
        self,
        intakes: Mapping[str, Intake],
        further: Mapping[str, FieldSpec] | None = None,
        masks: int = 0,
        values: Mapping[str, str] | None = None,
        seeds: bool = False,
        epochs: bool = False,
    ) -> None:
        self.fields = own_fields(intakes) | dict(further or {})
        self.masks, self.values, self.seeds, self.epochs = masks, dict(values or {}), seeds, epochs
        self.draws = max((_draws(field.intake) for field in self.fields.values()), default=0)
        self._shapes = {
            name: field.intake.shape for name, field in self.fields.items()
        }  # once: a tokenizer runs for it

    @property
    def hidden(self) -> dict[str, HideConfig]:
        """The fields of pictures with hidden squares."""
        return {name: field.hide for name, field in self.fields.items() if field.hide}

    def layout(self, items: int, longest: Mapping[str, int] | None = None) -> BufferLayout:
        """`longest`: the longest row of each ragged field, if rows may be longer than the window of the tower."""
        columns: list[BufferColumn] = [("id", "int64", ()), ("group", "int64", ())]
        columns += [(SEED, "int64", ())] if self.seeds else []
        columns += [("epoch", "int64", ())] if self.epochs else []
        columns += [(f"value {name}", "float32", ()) for name in self.values]
        for name, field in self.fields.items():
            shape = self._shapes[name]
            if longest and name in longest:
                shape = (max(shape[0], longest[name]), *shape[1:])
            columns += [(f"{name} rows", "int64", ()), (name, field.intake.dtype, (field.rows, *shape))]
            columns += [(f"{name} length", "int64", (field.rows,))] if field.intake.ragged else []
            columns += [(f"{name} number", "float32", (field.rows,))] if field.number else []
            columns += [(f"{name} masks", "float32", (field.rows, self.masks, 4))] if self._masked(field) else []
            columns += [(f"{name} draws", "float32", (field.rows, self.draws))] if _draws(field.intake) else []
        return BufferLayout(items, tuple(columns))

    def _masked(self, field: FieldSpec) -> bool:
        return self.masks > 0 and field.modality == "audio"

    def write(self, arrays: Arrays, items: Sequence[int], samples: Sequence[Sample], first: int = 0) -> None:
        """Writes each sample to its place in the batch. `first`: the id in the run of the source's first sample."""
        places = list(items)
        arrays["id"][places] = [first + sample.id for sample in samples]
        arrays["group"][places] = [one.group - first if one.group < 0 else one.group for one in samples]
        for name, place in self.values.items():
            arrays[f"value {name}"][places] = [number(sample.meta, place) for sample in samples]
        for name, field in self.fields.items():
            if isinstance(field.intake, TextIntake):
                self._write_texts(arrays, field, field.intake, items, samples)
            else:
                for item, sample in zip(items, samples, strict=True):
                    self._write_media(arrays, field, item, sample)
            for item, sample in zip(items, samples, strict=True) if self._masked(field) else ():
                if name in sample.masks:
                    arrays[f"{name} masks"][item, : len(sample.masks[name])] = sample.masks[name]
            for item, sample in zip(items, samples, strict=True) if _draws(field.intake) else ():
                if name in sample.draws:
                    arrays[f"{name} draws"][item, : len(sample.draws[name])] = sample.draws[name]

    def _write_media(self, arrays: Arrays, field: FieldSpec, item: int, sample: Sample) -> None:
        rows = sample.media_rows(field.name)
        arrays[f"{field.name} rows"][item] = len(rows)
        for row, media in enumerate(rows):
            if field.intake.ragged:
                arrays[f"{field.name} length"][item, row] = len(media)
                arrays[field.name][item, row, : len(media)] = media
                arrays[field.name][item, row, len(media) :] = 0
            elif not np.may_share_memory(media, arrays[field.name][item]):  # it may have been decoded into this array
                arrays[field.name][item, row] = media

    def _write_texts(
        self, arrays: Arrays, field: FieldSpec, intake: TextIntake, items: Sequence[int], samples: Sequence[Sample]
    ) -> None:
        """Tokenizes all captions in one call, which is faster."""
        captions = [sample.captions(field.name)[: field.rows] for sample in samples]
        arrays[f"{field.name} rows"][list(items)] = [len(rows) for rows in captions]
        places = [(item, row) for item, rows in zip(items, captions, strict=True) for row in range(len(rows))]
        if places:
            tokens = intake.tokenize([caption for rows in captions for caption in rows]).numpy()
            at_item, at_row = zip(*places, strict=True)
            arrays[field.name][list(at_item), list(at_row)] = tokens
            if field.number:
                numbers = [number for sample in samples for number in sample.numbers.get(field.name, ())[: field.rows]]
                arrays[f"{field.name} number"][list(at_item), list(at_row)] = numbers

    def batch(self, arrays: Arrays) -> Batch:
        columns = {name: torch.from_numpy(array) for name, array in arrays.items()}
        fields = {name: self._field(name, columns) for name in self.fields}
        values = {name: columns[f"value {name}"] for name in self.values}
        seeds, epochs = columns.get(SEED), columns.get("epoch")
        return Batch(columns["id"], columns["group"], fields, values=values, seeds=seeds, epochs=epochs)

    def _field(self, name: str, columns: Mapping[str, Tensor]) -> Field:
        """The rows that exist; without a copy if all do."""
        spec, count_B = self.fields[name], columns[f"{name} rows"]
        exists_BR = torch.arange(spec.rows) < count_B[:, None]
        item_n, _ = torch.nonzero(exists_BR, as_tuple=True)

        def rows(column: str) -> Tensor | None:
            if column not in columns:
                return None
            values = columns[column].flatten(0, 1)
            return values if len(item_n) == len(values) else values[exists_BR.flatten()]

        values = rows(name)
        assert values is not None
        values = channels_first(values, spec.intake)
        length, masks, number, draws = (rows(f"{name} {column}") for column in ("length", "masks", "number", "draws"))
        cached = isinstance(spec.intake, FeatureIntake)
        return Field(spec.modality, values, item_n, length, masks, number, draws=draws, cached=cached)

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """A batch of these samples, whose sounds may have any length."""
        ragged = [name for name, field in self.fields.items() if field.intake.ragged]
        longest = {
            name: max((len(row) for one in samples for row in one.media_rows(name)), default=0) for name in ragged
        }
        arrays = self.layout(len(samples), longest).allocate()
        self.write(arrays, range(len(samples)), samples)
        return self.batch(arrays)


def _draws(intake: Intake) -> int:
    return intake.draws if isinstance(intake, AudioIntake) else 0
