"""The samples of a batch with their decoded media, for features that are computed from these."""

from collections.abc import Iterator
from dataclasses import replace

from tercet.data_pipelines.sample import Batch, Field, Media, Sample


def decoded(batch: Batch) -> Iterator[Sample]:
    """The samples of a batch with their decoded media."""
    rows = {name: dict(zip(field.item.tolist(), range(len(field)), strict=True)) for name, field in batch}
    for item, sample in enumerate(batch.samples):
        there = {name: rows[name][item] for name in rows if name != "text" and item in rows[name]}
        yield replace(sample, media={name: media_of(batch.fields[name], row) for name, row in there.items()})


def media_of(field: Field, row: int) -> Media:
    """One row as it was decoded: a picture with its channels last, a sound without its padding."""
    values = field.values[row] if field.lengths is None else field.values[row, : int(field.lengths[row])]
    return (values.permute(1, 2, 0) if field.modality == "image" else values).cpu().numpy()
