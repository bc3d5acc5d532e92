"""Further pictures and sounds of a sample: their crops, their augmentation, and pictures with hidden squares."""

import pytest
import torch

from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.item import FileDecoder
from tercet.data_pipelines.fields import FieldConfig, further_fields
from tercet.data_pipelines.sample import ImageIntake, Intake, Sample
from tercet.data_pipelines.shards.read import Shards
from tercet.data_pipelines.transforms.augment import Augmenter
from tercet.data_pipelines.transforms.crop import random_views
from tests.data_pipelines.further import INTAKES, SIDE, batches, ramp
from tests.data_pipelines.further import shards as shards


def test_local_crops_are_small_and_differ(shards: Shards) -> None:
    """The range of the colours gives the width and height of each crop as a share of the picture."""
    crops = []
    for batch in batches(shards, 6):
        local = batch.fields["image.local"]
        assert (local.modality, tuple(local.values.shape[1:])) == ("image", (3, 8, 8))
        for i, id in enumerate(batch.ids.tolist()):
            rows = local.values[local.item == i].double()
            assert len(rows) == (2 if id % 4 else 0)
            crops += [(row, id) for row in rows]
        whole = batch.fields["image"].values.double()
        assert float((whole[:, 0].amax((1, 2)) - whole[:, 0].amin((1, 2))).mean()) > 6 * SIDE * 0.6
    for row, id in crops:
        width, height = (float(row[c].max() - row[c].min()) / (6 * SIDE) for c in (0, 1))
        assert 0.02 < width * height < 0.3
        assert float(row[2].mean()) == id
    assert len({tuple(row.flatten().tolist()) for row, _ in crops}) > 0.9 * len(crops)


def test_further_sounds_are_crops_of_the_same_sound(shards: Shards) -> None:
    starts = set()
    for batch in batches(shards, 3):
        other = batch.fields["audio.other"]
        for i, id in enumerate(batch.ids.tolist()):
            for wave in other.values[other.item == i].double():
                start = (float(wave[0]) - id / 1000) * 800
                assert start == pytest.approx(round(start), abs=0.1)
                assert torch.allclose(wave, (round(start) + torch.arange(160)).double() / 800 + id / 1000, atol=1e-3)
                starts.add(round(start))
    assert len(starts) > 20


def test_each_row_is_augmented_independently(shards: Shards) -> None:
    """A flip reverses the colours: some rows of an item are flipped and others are not."""
    augment = {"image": {"flip": 0.5}, "audio": {"frequency_masks": 2, "time_masks": 1}}
    turned = []
    for batch in batches(shards, 6, augment=augment):
        local, sounds = batch.fields["image.local"], batch.fields["audio.other"]
        turned += [bool(row[0, 0, 0] > row[0, 0, -1]) for row in local.values]
        assert sounds.masks is not None
        assert tuple(sounds.masks.shape) == (len(sounds), 3, 4)
        assert len({tuple(mask.flatten().tolist()) for mask in sounds.masks}) == len(sounds)
    pairs = list(zip(turned[::2], turned[1::2], strict=True))
    assert 0 < sum(one != other for one, other in pairs) < len(pairs)


@pytest.mark.parametrize("kind", ["index", "stream"])
def test_a_masked_picture_is_that_of_the_sample_with_grey_squares(shards: Shards, kind: str) -> None:
    """Half of the 16 squares are grey; the others are those of the picture after its crop and its augmentation."""
    config = FieldConfig.model_validate({"from": "image", "hide": {"share": 0.5, "side": 4}})
    further = further_fields(["image.masked"], {"image.masked": config}, INTAKES)
    augment = {"image": {"flip": 0.5, "jitter": 1.0}}
    data = DataConfig.model_validate({"train": "here", "workers": 0, "crop": (0.5, 1.0), "augment": augment})
    if kind == "index":
        batch = next(iter(Loader(data, {"train": shards}, INTAKES, 8, seed=5, further=further)))
        again = next(iter(Loader(data, {"train": shards}, INTAKES, 8, seed=5, further=further)))
        assert torch.equal(batch.fields["image.masked"].values, again.fields["image.masked"].values)
    else:
        augmenter = Augmenter(data.augment, hidden={"image.masked": config.hide} if config.hide else {})
        (view,) = random_views("here", 5, [0], [3], (0.5, 1.0))
        decoder = FileDecoder({"image": INTAKES["image"]}, data.train["train"], further=further)
        sample = decoder.sample("key", 3, {"png": ramp(3)}, view)
        assert isinstance(sample, Sample)
        batch = BatchMaker({"image": INTAKES["image"]}, further).collate([augmenter(sample, view)])
    whole, masked = (batch.fields[name] for name in ("image", "image.masked"))
    assert torch.equal(whole.item, masked.item)
    squares = [one.values.unfold(2, 4, 4).unfold(3, 4, 4).movedim(1, 3).flatten(3) for one in (whole, masked)]
    grey = (squares[1] == 128).all(dim=3)
    assert grey.sum(dim=(1, 2)).tolist() == [8] * len(masked)
    assert torch.equal(squares[1][~grey], squares[0][~grey])


def test_a_masked_picture_keeps_the_alpha_channel(shards: Shards) -> None:
    intakes: dict[str, Intake] = {"image": ImageIntake((16, 16), alpha=True)}
    config = FieldConfig.model_validate({"from": "image", "hide": {"share": 0.5, "side": 4}})
    further = further_fields(["image.masked"], {"image.masked": config}, intakes)
    data = DataConfig.model_validate({"train": "here", "workers": 0})
    batch = next(iter(Loader(data, {"train": shards}, intakes, 8, seed=5, further=further)))
    whole, masked = (batch.fields[name].values for name in ("image", "image.masked"))
    assert torch.equal(masked[:, 3], whole[:, 3])
    assert (masked[:, :3] != whole[:, :3]).any(dim=(1, 2, 3)).all()
