"""Larger patches and smaller pictures: the maps themselves, and towers that get what they make."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from tercet.data_pipelines.sample import ImageIntake
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.image import ImageEncoder
from tercet.models.reduction import larger_patches, resize_matrix, smaller_size
from tercet.models.tuning.positions import stretch

CLIP = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 2, "head_width": 16}
TOWERS: dict[str, dict[str, Any]] = {
    "small": {"encoder": "small:image", "size": 64, "options": {"width": 32, "heads": 2}},
    "open_clip": {"encoder": "open_clip:ViT-B-32", "size": 32, "options": {"vision_cfg": CLIP}},
    "timm": {
        "encoder": "timm:vit_tiny_patch16_224",
        "size": 32,
        "options": {"depth": 2, "embed_dim": 48, "num_heads": 3, "patch_size": 8},
    },
}


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def pictures(side: int) -> Tensor:
    return (random(3, 3, side, side) * 255).to(torch.uint8)


def tower_of(**config: Any) -> ImageEncoder:
    torch.manual_seed(0)
    tower = build_encoder("image", TowerConfig.model_validate(config)).eval()
    assert isinstance(tower, ImageEncoder)
    return tower


def test_patches_of_the_same_size_stay_as_they_are() -> None:
    values = pictures(24)
    torch.testing.assert_close(larger_patches((24, 24), 8, 8)(values), values.float())
    torch.testing.assert_close(smaller_size((24, 24), 24)(values), values.float())


@pytest.mark.parametrize(("own", "larger"), [(4, 8), (4, 6), (8, 12)])
def test_upsampled_patches_come_back_as_they_were(own: int, larger: int) -> None:
    """FlexiViT's defining property: a patch and the same patch upsampled have the same embedding."""
    patches = random(2, 3, own, own)
    upsampled = interpolate(patches, size=(larger, larger), mode="bilinear", antialias=True)
    found = larger_patches((larger, larger), own, larger)(upsampled)
    torch.testing.assert_close(found, patches, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("own", "larger"), [(4, 8), (4, 6), (8, 12)])
def test_a_smaller_picture_with_the_old_filters_is_the_picture_with_resized_filters(own: int, larger: int) -> None:
    """The filters are resized here as the paper says, by the pseudo-inverse of a matrix over whole patches."""
    values, filters = random(2, 3, 2 * larger, 3 * larger), random(5, 3, own, own)
    basis = torch.eye(own**2).view(own**2, 1, own, own)
    upsampled = interpolate(basis, size=(larger, larger), mode="bilinear", antialias=True)
    b_QP = upsampled.view(own**2, larger**2).T
    resized = (filters.view(15, -1) @ torch.linalg.pinv(b_QP)).view(5, 3, larger, larger)
    small = larger_patches((2 * larger, 3 * larger), own, larger)(values)
    assert small.shape[2:] == (2 * own, 3 * own)
    expected, found = conv2d(values, resized, stride=larger), conv2d(small, filters, stride=own)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_smaller_size_is_the_usual_resize() -> None:
    values = pictures(24)
    expected = interpolate(values.float(), size=(10, 10), mode="bilinear", antialias=True)
    torch.testing.assert_close(smaller_size((24, 24), 10)(values), expected, atol=1e-3, rtol=0)
    reduction = smaller_size((24, 48), 12)
    assert (reduction.before, reduction.after) == ((24, 48), (12, 24))
    assert reduction.intake(ImageIntake((24, 48))).size == (12, 24)
    assert not reduction.fits(values)
    assert resize_matrix(24, 10).sum(dim=1).tolist() == pytest.approx([1.0] * 10)


@pytest.mark.parametrize("kind", TOWERS)
def test_a_tower_on_smaller_pictures_is_one_of_that_size_with_interpolated_positions(kind: str) -> None:
    config = TOWERS[kind]
    half = config["size"] // 2
    options = config["options"] | ({"vision_cfg": CLIP | {"image_size": half}} if kind == "open_clip" else {})
    flexible, native = tower_of(**config), tower_of(**config | {"size": half, "options": options})
    weights = flexible.state_dict()
    for name, value in native.state_dict().items():
        if weights[name].shape != value.shape:
            places = value.shape[-2]
            weights[name] = stretch(weights[name], places)
    native.load_state_dict(weights)
    small = pictures(half)
    torch.testing.assert_close(flexible(small), native(small), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(flexible.tokens(small).tokens, native.tokens(small).tokens, atol=1e-5, rtol=1e-4)


def test_only_towers_over_patches_have_a_patch() -> None:
    sides = {kind: tower_of(**config).patch for kind, config in TOWERS.items()}
    assert sides == {"small": None, "open_clip": 8, "timm": 8}
    convolutions = {"encoder": "timm:mobilenetv4_conv_small", "size": 32}
    assert tower_of(**convolutions).patch is None
