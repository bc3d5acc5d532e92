"""Pictures of another size than the tower's own: interpolated positions, against a naive computation."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor

from tercet.data_pipelines.sample import ImageIntake
from tercet.errors import UserError
from tercet.models.config import ModelConfig, TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.image import ImageEncoder
from tercet.models.encoders.open_clip_towers import ViTOfAnySize
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.term_config import TermConfig
from tercet.models.tuning.positions import stretch

TOWERS: dict[str, dict[str, Any]] = {
    "small": {"encoder": "small:image", "size": 64, "options": {"width": 32, "heads": 2}},
    "open_clip": {
        "encoder": "open_clip:ViT-B-32",
        "size": 32,
        "options": {"vision_cfg": {"image_size": 32, "patch_size": 8, "width": 48, "layers": 2, "head_width": 16}},
    },
    "timm": {
        "encoder": "timm:vit_tiny_patch16_224",
        "size": 32,
        "options": {"depth": 2, "embed_dim": 48, "num_heads": 3, "patch_size": 8},
    },
}
TABLES = {"small": "positions", "open_clip": "model.positional_embedding", "timm": "model.pos_embed"}


def tower_of(kind: str) -> ImageEncoder:
    torch.manual_seed(0)
    tower = build_encoder("image", TowerConfig.model_validate(TOWERS[kind])).eval()
    assert isinstance(tower, ImageEncoder)
    return tower


def pictures(side: int) -> Tensor:
    return torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(side))


def cubic(distance: float) -> float:
    """Keys's kernel with a = -1/2, as antialiased resizing uses it."""
    x = abs(distance)
    if x >= 2:
        return 0.0
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2


def weights_of(place: int, before: int, after: int) -> list[float]:
    """The weight of each old row in the new row `place`. Where the grid becomes smaller, the kernel becomes wider."""
    scale = before / after
    centre, wide = (place + 0.5) * scale, max(scale, 1.0)
    found = [cubic((old + 0.5 - centre) / wide) for old in range(before)]
    return [weight / sum(found) for weight in found]


def naive(grid_HWD: Tensor, after: int) -> Tensor:
    """Bicubic and antialiased, by loops over the cells."""
    before, rows = len(grid_HWD), []
    for y in range(after):
        for x in range(after):
            across = zip(weights_of(x, before, after), grid_HWD.double().unbind(1), strict=True)
            columns_HD = sum((weight * column for weight, column in across), torch.zeros(()))
            down = zip(weights_of(y, before, after), columns_HD, strict=True)
            rows.append(sum((weight * row for weight, row in down), torch.zeros(())))
    return torch.stack(rows).float()


@pytest.mark.parametrize(("before", "after"), [(4, 2), (4, 3), (4, 7), (7, 5)])
def test_positions_are_interpolated_as_by_a_naive_loop(before: int, after: int) -> None:
    table = torch.randn(1 + before**2, 5, generator=torch.Generator().manual_seed(after))
    found = stretch(table, 1 + after**2)
    assert found is not None
    assert torch.equal(found[0], table[0]), "the position of the class token"
    torch.testing.assert_close(found[1:], naive(table[1:].view(before, before, 5), after), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", TOWERS)
def test_a_tower_interpolates_the_positions_of_its_own_size(kind: str) -> None:
    """The vectors and the gradient are those of a tower of the other size, through a naive interpolation."""
    tower, side = tower_of(kind), TOWERS[kind]["size"]
    table = tower.get_parameter(TABLES[kind])
    names, first = list(tower.state_dict()), int(kind != "small")
    vectors = tower(pictures(side // 2))
    slope = torch.randn_like(vectors)
    (vectors * slope).sum().backward()
    found = table.grad
    assert found is not None

    leaf = table.detach().requires_grad_()
    rows_PD = leaf.view(-1, leaf.shape[-1])
    half = round((len(rows_PD) - first) ** 0.5) // 2
    smaller = torch.cat([rows_PD[:first], naive(rows_PD[first:].view(2 * half, 2 * half, -1), half)])
    config = TOWERS[kind] | {"size": side // 2}
    if kind == "open_clip":
        config["options"] = {"vision_cfg": config["options"]["vision_cfg"] | {"image_size": side // 2}}
    native = build_encoder("image", TowerConfig.model_validate(config)).eval()
    own = {name: value for name, value in tower.state_dict().items() if name != TABLES[kind]}
    shape = native.get_parameter(TABLES[kind]).shape
    given = own | {TABLES[kind]: smaller.view(shape)}
    expected = torch.func.functional_call(native, given, (pictures(side // 2),))
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-4)
    (expected * slope).sum().backward()
    torch.testing.assert_close(found, leaf.grad, atol=1e-5, rtol=1e-4)
    assert list(tower.state_dict()) == names


@pytest.mark.parametrize("kind", ["open_clip", "timm"])
def test_pictures_of_the_own_size_have_the_same_bits_as_in_the_library(kind: str) -> None:
    tower, values = tower_of(kind), pictures(TOWERS[kind]["size"])
    found = tower(values)
    if kind == "open_clip":
        assert isinstance(tower.model, ViTOfAnySize)
        tower.model.__class__ = VisionTransformer
    else:
        import timm

        tower.model = timm.create_model(
            "vit_tiny_patch16_224", num_classes=0, img_size=32, **TOWERS["timm"]["options"]
        ).eval()
        tower.model.load_state_dict(
            {name.removeprefix("model."): value for name, value in tower_of(kind).state_dict().items()}
        )
    assert torch.equal(tower(values), found)


def model(encoder: str, **options: object) -> Multimodal:
    image = {"encoder": encoder, "size": 64, "options": options}
    towers = {"dim": 16, "image": image, "text": {"encoder": "small:text"}}
    return build_model(ModelConfig.model_validate(towers), [TermConfig(between=("image", "text"))], seed=0)


def sized(model: Multimodal, side: int) -> dict[str, ImageIntake]:
    intake = model.tower("image").intake
    assert isinstance(intake, ImageIntake)
    return {"image.local": replace(intake, size=(side, side))}


def test_a_tower_of_one_size_refuses_other_sizes_in_one_line() -> None:
    fixed = model("timm:beit_base_patch16_224", depth=1, embed_dim=24, num_heads=1)
    fixed.check_sizes(sized(fixed, 64))
    with pytest.raises(
        UserError, match=r"fields\.image\.local\.size: the image tower does not accept 32 pixels \(.*\);"
    ):
        fixed.check_sizes(sized(fixed, 32))


def test_other_sizes_are_multiples_of_the_patches() -> None:
    free = model("timm:vit_tiny_patch16_224", depth=1)
    free.check_sizes(sized(free, 32))
    with pytest.raises(UserError, match=r"fields\.image\.local\.size is 40; set it to a multiple of .* 16 pixels"):
        free.check_sizes(sized(free, 40))
