"""Towers from timm equal timm with its own image transform."""

import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from torchvision.transforms.functional import to_pil_image

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.encoder import check_batchnorm
from tercet.models.encoders.timm_towers import TimmImage
from tercet.testing.encoders import gives_tokens
from tercet.testing.rows import rows_for

VIT = {"depth": 3, "embed_dim": 32, "num_heads": 2}
CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)}


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), [("vit_tiny_patch16_224", VIT), ("convnext_atto", CONVNEXT)])
def test_image_vectors_equal_timm(name: str, options: dict[str, object]) -> None:
    tower = build_encoder("image", TowerConfig(encoder=f"timm:{name}", size=64, options=options)).eval()
    size = {"img_size": 64} if name.startswith("vit") else {}
    reference = timm.create_model(name, num_classes=0, **size, **options).eval()
    reference.load_state_dict(tower.model.state_dict())  # type: ignore[union-attr, operator, arg-type]
    pixels = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = {**resolve_model_data_config(reference), "input_size": (3, 64, 64), "crop_pct": 1.0}
    transform = create_transform(**data, is_training=False)
    expected = reference(torch.stack([transform(to_pil_image(picture)) for picture in pixels]))
    torch.testing.assert_close(tower(pixels), expected, atol=1e-5, rtol=0)
    assert expected.shape[1] == tower.width


def test_blocks_of_a_vit() -> None:
    tower = build_encoder("image", TowerConfig(encoder="timm:vit_tiny_patch16_224", size=32, options=VIT))
    names = {id(parameter): name for name, parameter in tower.named_parameters()}
    blocks = [{names[id(parameter)].split(".", 3)[:3][-1] for parameter in block} for block in tower.blocks()]
    assert len(blocks) == 3
    assert [{name for name in block if name.isdigit()} for block in blocks] == [{"0"}, {"1"}, {"2"}]
    assert "weight" in blocks[2]  # model.norm.weight
    held = {id(parameter) for block in tower.blocks() for parameter in block}
    stem = {name.split(".")[1] for name, parameter in tower.named_parameters() if id(parameter) not in held}
    assert stem == {"cls_token", "pos_embed", "patch_embed"}


@pytest.mark.parametrize(
    ("modality", "config", "message"),
    [
        ("image", {"encoder": "timm:convnext_ato"}, "did you mean `convnext_atto`"),
        ("image", {"encoder": "timm:convnext_atto", "options": {"deth": 3}}, "unexpected keyword argument 'deth'"),
        ("image", {"encoder": "timm:resnet5000", "size": 64}, "timm has no model `resnet5000`"),
        ("audio", {"encoder": "timm:resnet5000"}, "timm has no model `resnet5000`"),
        (
            "text",
            {"encoder": "timm:convnext_atto"},
            "unknown text encoder family `timm`; known: hf, laion_clap, open_clip, small",
        ),
        ("image", {"encoder": "tim:convnext_atto"}, "did you mean `timm`"),
        ("image", {"encoder": "convnext_atto"}, "FAMILY:NAME"),
        ("image", {"encoder": "small:imag"}, "write `small:image`"),
        ("text", {"encoder": "small:text", "options": {"dept": 3}}, "did you mean `depth`"),
        ("text", {"encoder": "small:text", "options": {"depth": 0}}, "not a whole number above 0"),
        ("audio", {"encoder": "small:audio", "features": "small16k"}, "did you mean `small16k64`"),
    ],
)
def test_wrong_configs_are_rejected_in_one_line(modality: str, config: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_encoder(modality, TowerConfig(**config))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_frozen_batchnorm_is_required_for_training_only() -> None:
    torch.manual_seed(0)
    given = {"encoder": "timm:mobilenetv4_conv_small", "size": 64}
    asked = TowerConfig(**given, frozen_batchnorm=True)  # type: ignore[arg-type]
    tower = build_encoder("image", TowerConfig(**given)).eval()  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"has BatchNorm, .* set model\.image\.frozen_batchnorm=true to train it"):
        check_batchnorm(tower, TowerConfig(**given))  # type: ignore[arg-type]
    check_batchnorm(tower, asked)
    other = build_encoder("image", asked).eval()
    other.load_state_dict(tower.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(tower(pixels), other(pixels))


def test_frozen_batchnorm_ignores_the_batch() -> None:
    config = TowerConfig(encoder="timm:mobilenetv4_conv_small", size=64, frozen_batchnorm=True)
    torch.manual_seed(0)
    tower = build_encoder("image", config).train()
    before = {name: value.clone() for name, value in tower.named_buffers()}
    pixels = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    together = tower(pixels)
    together.sum().backward()
    alone = torch.cat([tower(picture[None]) for picture in pixels])
    torch.testing.assert_close(together, alone, atol=1e-5 * float(alone.detach().abs().max()), rtol=0)
    assert all(value.equal(before[name]) for name, value in tower.named_buffers())


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options"), [("vit_tiny_patch16_224", VIT), ("vit_base_patch16_gap_224", VIT), ("convnext_atto", CONVNEXT)]
)
def test_tokens_of_images_are_patches_and_cells(name: str, options: dict[str, object]) -> None:
    tower = build_encoder("image", TowerConfig(encoder=f"timm:{name}", size=64, options=options)).eval()
    gives_tokens(tower, rows_for(tower.intake))
    assert isinstance(tower, TimmImage)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    features, found = tower.model.forward_features(tower.normalise(pixels)), tower.tokens(pixels)  # type: ignore[operator]
    if name.startswith("convnext"):
        expected = tower.model.head.norm(features).flatten(2).transpose(1, 2)  # type: ignore[union-attr, operator]
    elif "gap" in name:
        expected = tower.model.fc_norm(features)  # type: ignore[operator]
    else:
        expected = features[:, 1:]
    torch.testing.assert_close(found.tokens, expected, atol=1e-6, rtol=0)
    assert found.counts.tolist() == [4 if name.startswith("convnext") else 16] * 2
