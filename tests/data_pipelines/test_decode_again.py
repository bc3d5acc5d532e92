"""Pictures that are decoded small at first, and again for some items: the same crops and changes as decoded at once."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.sample import Batch, ImageIntake, Intake, TextIntake
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.data_pipelines.transforms.config import HideConfig, ImageAugment
from tests.data_pipelines.test_loader import tokenize

LARGE, SMALL, CROP = ImageIntake((12, 12)), ImageIntake((6, 6)), ImageIntake((4, 4))
AUGMENT = {"image": {"flip": 0.5, "jitter": 0.8, "blur": 0.5}}


@pytest.fixture
def shards(pack: Callable[..., Path], picture: Callable[..., bytes]) -> Shards:
    """Some samples lack the picture. One has no readable picture, so another sample takes its place."""

    def item(i: int) -> dict[str, object]:
        texts = json.dumps({"texts": ["a", "b", "c"]}).encode()
        files: dict[str, object] = {"txt": f"caption of {i:02d}", "json": texts}
        if i % 3:
            files["png"] = picture(i, (40, 30)) if i != 5 else b"no picture"
            files |= {f"negative.{n}.png": picture(100 * n + i, (20, 20)) for n in range(3) if (n + i) % 4}
        return {"__key__": f"{i:02d}", **files}

    return open_shards([str(pack("0.tar", [item(i) for i in range(24)]))])


def fields(size: ImageIntake) -> dict[str, FieldSpec]:
    """The fields of pictures. `image.local` has a size of its own."""
    return {
        "image": FieldSpec("image", size),
        "image.view": FieldSpec("image.view", size, rows=2, crop=(0.2, 0.5)),
        "image.negative": FieldSpec("image.negative", size, rows=2, file="negative", paired="text.negative"),
        "image.masked": FieldSpec("image.masked", size, hide=HideConfig(share=0.5, side=3)),
    }


def loader(shards: Shards, small: bool, **options: Any) -> Loader:
    data = {"train": "here", "crop": (0.3, 1.0), "augment": AUGMENT, "max_bad": 0.5, "workers": 0} | options
    size = SMALL if small else LARGE
    text: Intake = TextIntake(tokenize)
    further = {
        **{name: field for name, field in fields(size).items() if name != "image"},
        "image.local": FieldSpec("image.local", CROP),
        "text.negative": FieldSpec("text.negative", text, rows=2, place="json.texts"),
    }
    again = fields(LARGE) if small else None
    intakes = {"image": size, "text": text}
    return Loader(DataConfig.model_validate(data), {"train": shards}, intakes, 8, seed=5, further=further, again=again)


def rows(batch: Batch, name: str) -> tuple[list[int], Any]:
    return batch.fields[name].item.tolist(), batch.fields[name].values.tolist()


@pytest.mark.parametrize("options", [{}, {"workers": 2, "worker": "thread"}, {"workers": 1, "worker": "process"}])
def test_chosen_items_get_the_pictures_of_batches_that_are_decoded_at_full_size(
    shards: Shards, options: dict[str, Any]
) -> None:
    """Over two epochs; also several rows, further files that belong to captions, pictures with hidden squares, and a
    sample that was replaced."""
    twice, once = loader(shards, small=True, **options), loader(shards, small=False)
    assert twice.again is not None
    keep = torch.tensor([0, 3, 4, 6])
    for small, large in islice(zip(twice, once, strict=True), 6):
        assert torch.equal(small.ids, large.ids)
        assert {tuple(small.fields[name].values.shape[2:]) for name in fields(SMALL)} == {(6, 6)}
        expected = large.items(keep)
        found = twice.again(small.items(keep))
        assert [rows(found, name) for name in large.fields] == [rows(expected, name) for name in large.fields]
        assert found.epochs is None
    assert once.bad == twice.bad
    assert once.bad.total() > 0


def test_small_pictures_show_the_same_crop_and_the_same_changes(shards: Shards) -> None:
    """A small picture is like the large one made smaller, far more than like that of the same sample's next epoch."""
    twice, once = loader(shards, small=True), loader(shards, small=False)
    seen: dict[int, torch.Tensor] = {}
    near, far = [], []
    for small, large in islice(zip(twice, once, strict=True), 9):
        for row, item in enumerate(small.fields["image"].item.tolist()):
            picture = small.fields["image"].values[row].float()
            shrunk = torch.nn.functional.avg_pool2d(large.fields["image"].values[row].float(), 2)
            near.append(float((picture - shrunk).abs().mean()))
            if (id := int(small.ids[item])) in seen:
                far.append(float((picture - seen[id]).abs().mean()))
            seen[id] = picture
    assert len(far) > 20
    assert np.mean(near) < 0.25 * np.mean(far)


def test_a_blur_is_as_strong_on_smaller_pictures() -> None:
    assert ImageAugment(blur_sigma=(0.5, 2.0)).shrunk(0.25).blur_sigma == (0.125, 0.5)


def test_a_picture_that_is_bad_the_second_time_is_left_out(shards: Shards) -> None:
    """The item keeps its caption and its other pictures. The sample is counted as bad."""
    twice = loader(shards, small=True)
    assert twice.again is not None
    batch = next(iter(twice))
    before = twice.bad.total()
    (decoded,) = twice.again._sources
    broken = int(batch.ids[batch.fields["image"].item[1]])
    read = decoded.decode.source.read

    class Damaged:
        def __getattr__(self, name: str) -> Any:
            return getattr(shards, name)

        def __len__(self) -> int:
            return len(shards)

        def read(self, ids: Any, wanted: Any) -> Any:
            return [
                {**files, "png": b"gone"} if id == broken else files
                for id, files in zip(ids, read(ids, wanted), strict=True)
            ]

    decoded.decode.source = Damaged()  # type: ignore[assignment]
    found = twice.again(batch)
    item = batch.ids.tolist().index(broken)
    for name in fields(LARGE):
        expected = [one for one in batch.fields[name].item.tolist() if one != item]
        assert found.fields[name].item.tolist() == expected
    assert item in found.fields["text"].item.tolist()
    assert twice.bad.total() == before + 1


def test_batches_without_pictures_stay_as_they_are(shards: Shards) -> None:
    twice = loader(shards, small=True)
    assert twice.again is not None
    batch = next(iter(twice))
    lone = batch.items(torch.tensor([n for n in range(8) if n not in batch.fields["image"].item.tolist()]))
    found = twice.again(lone)
    assert found.fields["text"] is lone.fields["text"]
    assert len(found.fields["image"]) == 0
    assert replace(found, epochs=lone.epochs).ids is lone.ids
