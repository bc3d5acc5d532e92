"""A mask as the fourth channel: nothing at first, then a difference; and it moves exactly as its picture does."""

import io
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.builtin.figure import PALETTE
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.image import decode_image
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import ImageIntake
from tercet.data_pipelines.sources.open import open_source
from tercet.data_pipelines.transforms.config import ImageAugment
from tercet.data_pipelines.transforms.crop import CentreView, View, random_views
from tercet.data_pipelines.transforms.image import ImageAugmenter
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.interop.pretrained import load_towers
from tercet.models.multimodal import build_model
from tests.models.test_encoders_open_clip import MODELS
from tests.training.test_memory_teacher import space

TOWERS: dict[str, dict[str, object]] = {
    "small:image": {"width": 32, "heads": 2},
    "open_clip:tiny-clip": {},
    "timm:vit_tiny_patch16_224": {"depth": 1, "embed_dim": 32, "num_heads": 2},
}
INTAKE = ImageIntake((24, 24), "bilinear", alpha=True)


@pytest.mark.parametrize("name", TOWERS)
def test_a_mask_changes_nothing_until_it_is_trained(name: str, tmp_path: Path) -> None:
    (tmp_path / "tiny-clip.json").write_text(json.dumps(MODELS["tiny-clip"]))
    open_clip.add_model_config(tmp_path)
    config = TowerConfig(encoder=name, size=32, options=TOWERS[name])
    plain = build_encoder("image", config).eval()
    masked = build_encoder("image", config.model_copy(update={"alpha": True})).eval()
    assert masked.intake.shape == (32, 32, 4)
    added = masked.state_dict().keys() - plain.state_dict().keys()
    (filters,) = [value for path, value in masked.named_parameters() if path in added]
    assert not filters.any()
    masked.load_state_dict(plain.state_dict(), strict=False)
    pixels = torch.randint(0, 256, (3, 4, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = masked(pixels)
    assert torch.equal(found, plain(pixels[:, :3]))
    found.square().sum().backward()
    assert filters.grad is not None
    assert filters.grad.abs().max() > 0
    with torch.no_grad():
        filters.normal_()
        assert (masked(pixels) - found).abs().max() > 1e-3


def test_weights_of_an_rgb_model_load() -> None:
    plain = space()
    seen = plain.model.model_copy(update={"image": plain.model.towers["image"].model_copy(update={"alpha": True})})
    model, weights = build_model(seen, plain.terms, 1), build_model(plain.model, plain.terms, 2).state_dict()
    load_towers(model, weights, "init")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())
    assert [name for name in loaded if name not in weights] == ["towers.image.stem.0.0.alpha"]


@pytest.mark.parametrize("name", ["timm:convnext_atto", "open_clip:RN50"])
def test_a_tower_without_patches_is_refused(name: str) -> None:
    with pytest.raises(
        UserError, match=r"^model.image.alpha: this tower has no convolution over patches .*; use small"
    ):
        build_encoder("image", TowerConfig(encoder=name, size=32, alpha=True))
    with pytest.raises(UserError, match=r"model\.text\.alpha: applies to image towers only"):
        build_encoder("text", TowerConfig(encoder="small:text", alpha=True))


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def waves(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return (127.5 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7)).astype(np.uint8)


VIEWS: list[View] = [CentreView(), *random_views("train", 0, [0] * 20, range(20), (0.1, 1.0))]


@pytest.mark.parametrize(("kind", "exact"), [("PNG", False), ("PNG", True), ("JPEG", False)])
def test_a_mask_is_cropped_and_flipped_as_its_picture(kind: str, exact: bool) -> None:
    """A picture whose grey values are those of its mask. A JPEG of this size is decoded at a half."""
    grey = waves(160, 200)
    picture = encoded(np.dstack([grey] * 3), kind)
    augment = ImageAugmenter(ImageAugment(flip=0.5))
    apart = []
    for number, view in enumerate(VIEWS):
        found = augment(decode_image(picture, INTAKE, view, exact, encoded(grey)), number)
        apart.append(np.abs(found[..., 0].astype(int) - found[..., 3]).max())
    assert max(apart) <= (1 if kind == "PNG" else 8)


def test_a_picture_without_a_mask_has_one_everywhere_and_a_mask_of_another_size_is_bad() -> None:
    picture = encoded(np.dstack([waves(40, 40)] * 3))
    assert (decode_image(picture, INTAKE, CentreView())[..., 3] == 255).all()
    with pytest.raises(BadSample, match="alpha: of another size than the picture"):
        decode_image(picture, INTAKE, CentreView(), mask=encoded(waves(40, 41)))


def test_colours_change_without_the_mask_and_full_alpha_replaces_its_share() -> None:
    pixels = np.dstack([waves(24, 24)] * 3 + [waves(24, 24) // 2])
    colours = ImageAugmenter(ImageAugment(jitter=1, grey=0.5, blur=0.5, solarise=1, full_alpha=0.3))
    found = [colours(pixels, key) for key in range(300)]
    assert all((one[..., :3] != pixels[..., :3]).any() for one in found)
    masks = [one[..., 3] for one in found]
    full = [bool((mask == 255).all()) for mask in masks]
    assert all(whole or (mask == pixels[..., 3]).all() for whole, mask in zip(full, masks, strict=True))
    assert 0.2 < np.mean(full) < 0.4


def test_the_built_in_masks_cover_the_object_that_they_describe(tmp_path: Path) -> None:
    """Pixels under it have the object's colour more than the rest. All batches hold the masks, also for evaluation."""
    config = WorldConfig(train=40, val=0, combinations=0, size=48, workers=1, masks=True, image_format="png")
    plain = generate(config.model_copy(update={"masks": False}), tmp_path / "plain")
    world = generate(config, tmp_path / "masked")
    source, other = (open_source(str(one / "train")) for one in (world, plain))
    ids, wanted = range(40), frozenset({"png", "json", "alpha.image"})
    nearer = []
    for files, before in zip(source.read(ids, wanted), other.read(ids, wanted), strict=True):
        assert isinstance(files, dict)
        assert isinstance(before, dict)
        assert files["png"] == before["png"]
        mask, meta = np.array(Image.open(io.BytesIO(files["alpha.png"]))), json.loads(files["json"])
        assert mask.shape == (48, 48)
        assert 20 < (mask > 127).sum() < 48 * 48 / 2
        (colour,) = [value for name, value in PALETTE.items() if f" {name} " in meta["masked"]]
        rgb = np.array(Image.open(io.BytesIO(files["png"])).convert("RGB")).astype(float)
        near = np.abs(rgb - np.array(colour)).max(axis=2) < 50
        nearer.append(near[mask > 200].mean() > 0.2 + near[mask < 20].mean())
    assert np.mean(nearer) > 0.9
    data = DataConfig.model_validate({"source": str(world / "train"), "crop": None, "workers": 0})
    intake = ImageIntake((48, 48), alpha=True)
    batches = [next(iter(Loader(data, {"train": source}, {"image": intake}, 8, seed=0)))]
    batches += EvalLoader(Decoder(source, {"image": intake}, data.train["train"]), {"image": intake}, 8, workers=0)
    assert sum(map(len, batches)) == 8 + 40
    pairs = ((one.ids.tolist(), one.fields["image"].values) for one in batches)
    for id, row in (pair for ids, rows in pairs for pair in zip(ids, rows, strict=True)):
        (files,) = source.read([id], wanted)
        assert isinstance(files, dict)
        assert np.array_equal(row[3].numpy(), np.array(Image.open(io.BytesIO(files["alpha.png"]))))
