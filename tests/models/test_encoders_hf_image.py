"""Image towers from Hugging Face equal the image processors and models of transformers."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)  # fmt: skip

from tercet.data_pipelines.decode.image import decode_image
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.image import ImageEncoder
from tercet.testing.encoders import gives_tokens
from tercet.testing.rows import rows_for

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "patch_size": 8, "image_size": 32}  # fmt: skip
SQUARE, SHORT = {"height": 32, "width": 32}, {"shortest_edge": 32}
CUT = {"size": {"shortest_edge": 40}, "crop_size": SQUARE}

MADE: dict[str, Callable[[], tuple[Any, Any]]] = {
    "clip-projected": lambda: (
        CLIPVisionModelWithProjection(CLIPVisionConfig(**TINY, projection_dim=24)),
        CLIPImageProcessor(size=SHORT, crop_size=SQUARE),
    ),
    "clip": lambda: (CLIPVisionModel(CLIPVisionConfig(**TINY)), CLIPImageProcessor(size=SHORT, crop_size=SQUARE)),
    "siglip": lambda: (SiglipVisionModel(SiglipVisionConfig(**TINY)), SiglipImageProcessor(size=SQUARE)),
    "vit": lambda: (
        ViTModel(ViTConfig(**TINY)),
        ViTImageProcessor(size=SQUARE, rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3),
    ),
    "dinov2": lambda: (Dinov2Model(Dinov2Config(**TINY)), BitImageProcessor(**CUT, image_std=[0.2, 0.3, 0.4])),
}
Saved = tuple[str, Path, Any]


@pytest.fixture(scope="module", params=MADE)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("hf") / request.param
    torch.manual_seed(0)
    model, processor = MADE[request.param]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return request.param, folder, model.eval()


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("saved", names, indirect=True)


def build(folder: Path, **config: object) -> ImageEncoder:
    tower = build_encoder("image", TowerConfig(encoder=f"hf:{folder}", **config))  # type: ignore[arg-type]
    assert isinstance(tower, ImageEncoder)
    return tower.eval()


def picture() -> Image.Image:
    """A smooth image, on which two resampling libraries agree."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((108, 72), Image.Resampling.BICUBIC)


def handed(tower: ImageEncoder) -> Tensor:
    file = BytesIO()
    picture().save(file, "png")
    bytes_HWC = torch.from_numpy(decode_image(file.getvalue(), tower.intake, CentreView(), exact=True))
    return bytes_HWC.permute(2, 0, 1)[None]


def vector(saved: Saved, pixels: Tensor, **options: object) -> Tensor:
    output = saved[2](pixel_values=pixels, **options)
    if saved[0] == "clip-projected":
        return output.image_embeds
    return output.last_hidden_state[:, 0] if saved[0] in ("vit", "dinov2") else output.pooler_output


@torch.no_grad()
def test_pixels_equal_the_image_processor(saved: Saved) -> None:
    """From the same file. The two resampling libraries may differ by one or two steps of 255."""
    tower = build(saved[1])
    seen: list[Tensor] = []
    tower.model.register_forward_pre_hook(lambda _, args, given: seen.append(given["pixel_values"]), with_kwargs=True)
    tower(handed(tower))
    expected = AutoImageProcessor.from_pretrained(saved[1])(picture(), return_tensors="pt")["pixel_values"]
    assert seen[0].shape == expected.shape
    assert (seen[0] - expected).abs().max() < 2.5 / 255 / min(tower.std.flatten().tolist())


@torch.no_grad()
def test_vectors_equal_transformers_on_the_same_pixels(saved: Saved) -> None:
    tower = build(saved[1])
    bytes_ = torch.randint(0, 256, (3, 3, *tower.intake.size), dtype=torch.uint8)
    margin = (tower.intake.size[0] - 32) // 2
    cut = bytes_[:, :, margin : margin + 32, margin : margin + 32]
    processor = AutoImageProcessor.from_pretrained(saved[1])
    pixels = processor(list(cut), do_resize=False, return_tensors="pt")["pixel_values"]
    ours, expected = tower(bytes_), vector(saved, pixels)
    torch.testing.assert_close(ours, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert tower.width == ours.shape[1]
    assert tower.projects is (saved[0] == "clip-projected")
    assert tower(*tower.dummy(torch.device("cpu"))).isfinite().all()


@torch.no_grad()
def test_another_size_interpolates_positions(saved: Saved) -> None:
    tower = build(saved[1], size=48)
    bytes_ = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    stretched = {} if saved[0] == "dinov2" else {"interpolate_pos_encoding": True}
    expected = vector(saved, tower.normalise(bytes_), **stretched)
    torch.testing.assert_close(tower(bytes_), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_blocks_and_gradient_checkpointing(saved: Saved) -> None:
    tower = build(saved[1]).train()
    blocks = tower.blocks()
    held = {id(weight): weight for block in blocks for weight in block}
    assert len(blocks) == 2
    assert len(held) == sum(len(block) for block in blocks)
    stem = {name for name, weight in tower.named_parameters() if id(weight) not in held}
    assert stem
    assert all("embeddings" in name or "pre_layrnorm" in name for name in stem)
    bytes_ = torch.randint(0, 256, (2, 3, *tower.intake.size), dtype=torch.uint8)
    target = torch.randn(2, tower.width)
    trained = list(tower.parameters())
    plain = torch.autograd.grad((tower(bytes_) * target).sum(), trained)
    tower.checkpoint_gradients()
    again = torch.autograd.grad((tower(bytes_) * target).sum(), trained)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@only("vit")
@torch.no_grad()
def test_mean_pooling(saved: Saved) -> None:
    tower = build(saved[1], options={"pool": "mean"})
    bytes_ = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    expected = saved[2](pixel_values=tower.normalise(bytes_)).last_hidden_state.mean(1)
    torch.testing.assert_close(tower(bytes_), expected, atol=1e-5, rtol=0)


@only("vit")
@pytest.mark.parametrize(
    ("options", "message"), [({"pool": "last"}, "use cls or mean"), ({"pol": "cls"}, "did you mean `pool`")]
)
def test_wrong_options_are_rejected(saved: Saved, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(saved[1], options=options)


@only("clip")
def test_one_tower_of_a_two_tower_model_has_no_options(saved: Saved) -> None:
    with pytest.raises(UserError, match=r"unknown option `force_quick_gelu`; .* has no options; leave it out"):
        build(saved[1], options={"force_quick_gelu": True})


@only("vit")
def test_processors_without_one_image_size_are_rejected(saved: Saved, tmp_path: Path) -> None:
    saved[2].save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has no image processor \(preprocessor_config\.json\)"):
        build(tmp_path)
    CLIPImageProcessor(size=SHORT, do_center_crop=False).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"model\.image\.size: .* set model\.image\.size to a number of pixels"):
        build(tmp_path)
    assert build(tmp_path, size=32).intake.size == (32, 32)
    CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=SQUARE).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="pads its images"):
        build(tmp_path)


@torch.no_grad()
def test_tokens_are_the_patches_of_transformers(saved: Saved) -> None:
    name, folder, model = saved
    tower = build(folder)
    if name == "siglip":
        with pytest.raises(UserError, match=r"model.image.encoder: this tower has no tokens, only one vector"):
            tower.tokens(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
        return
    gives_tokens(tower, rows_for(tower.intake))
    pixels = handed(tower)
    side = (pixels.shape[2] - 32) // 2
    inner = tower.normalise(pixels)[:, :, side : side + 32, side : side + 32]
    patches = model(pixel_values=inner).last_hidden_state[:, 1:]
    if name.startswith("clip"):
        patches = (model.vision_model if name == "clip-projected" else model).post_layernorm(patches)
    expected = model.visual_projection(patches) if name == "clip-projected" else patches
    assert expected.shape == (1, 16, tower.width)
    torch.testing.assert_close(tower.tokens(pixels).tokens, expected, atol=1e-5, rtol=0)
