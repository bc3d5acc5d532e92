"""Selects items of a batch with all their rows; compares with loops over the rows."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tercet.data_pipelines.sample import Batch, Field, Sample

ITEMS = 6


def batch_of(rows: dict[str, list[int]]) -> Batch:
    """Fields whose rows belong to these items, in ascending order; the values encode the field and the row."""
    fields = {}
    for number, (name, items) in enumerate(rows.items()):
        values = 100 * number + torch.arange(len(items))
        lengths = values + 1 if name == "audio" else None
        masks = values[:, None, None].expand(-1, 2, 4).float() if name == "audio" else None
        fields[name] = Field(name, values[:, None], torch.tensor(items, dtype=torch.int64), lengths, masks)
    samples = tuple(Sample(str(item), item, item) for item in range(ITEMS))
    return Batch(torch.arange(ITEMS) * 7, torch.arange(ITEMS) % 2, fields, samples, {"train": 12})


item_lists = st.lists(st.integers(0, ITEMS - 1), max_size=10).map(sorted)


@given(image=item_lists, audio=item_lists, keep=st.sets(st.integers(0, ITEMS - 1), min_size=1).map(sorted))
def test_selected_items_keep_all_their_rows_of_every_field(image: list[int], audio: list[int], keep: list[int]) -> None:
    whole = batch_of({"image": image, "audio": audio})
    part = whole.items(torch.tensor(keep))
    assert part.ids.tolist() == [7 * item for item in keep]
    assert part.groups.tolist() == [item % 2 for item in keep]
    assert [sample.id for sample in part.samples] == keep
    assert part.cursors == {"train": 12}
    for number, (name, items) in enumerate({"image": image, "audio": audio}.items()):
        field = part.fields[name]
        rows = [row for row, item in enumerate(items) if item in keep]
        assert field.values[:, 0].tolist() == [100 * number + row for row in rows]
        assert field.item.tolist() == [keep.index(items[row]) for row in rows]
        if name == "audio":
            assert field.lengths is not None
            assert field.masks is not None
            assert field.lengths.tolist() == [100 * number + row + 1 for row in rows]
            assert field.masks[:, 1, 3].tolist() == [100 * number + row for row in rows]
