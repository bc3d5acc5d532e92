"""Towers from open_clip return its vectors, from the same weights file."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import Encoder, build_encoder
from tercet.testing.encoders import gives_tokens
from tercet.testing.rows import rows_for

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 48, "heads": 2, "layers": 2}
MODELS = {
    "tiny-clip": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-custom": {
        "embed_dim": 24, "custom_text": True, "init_logit_bias": -10,
        "vision_cfg": {**VISION, "pool_type": "avg", "attentional_pool": True},
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "tiny-convnext": {
        "embed_dim": 24, "text_cfg": TEXT,
        "vision_cfg": {"image_size": 32, "timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear"},
    },
    "tiny-coca": {
        "embed_dim": 24, "custom_text": True,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "width": 24, "heads": 4, "layers": 1},
    },
}  # fmt: skip
OUTSIDE = ("logit", "text_decoder")
Saved = tuple[str, torch.nn.Module, Path]
TEXTS = ["a red boat", "", "two dogs left of a very small green and yellow house with a chimney that smokes"]


@pytest.fixture(scope="module", params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A model that open_clip builds, and a file with its random weights."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / f"{request.param}.json").write_text(json.dumps(MODELS[request.param]))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model(request.param).eval()
    torch.save(model.state_dict(), folder / "weights.pt")
    return request.param, model, folder / "weights.pt"


def build(modality: str, saved: Saved) -> Encoder:
    config = TowerConfig(encoder=f"open_clip:{saved[0]}", options={"pretrained": str(saved[2])})
    return build_encoder(modality, config).eval()


@torch.no_grad()
def test_image_vectors_equal_open_clip(saved: Saved) -> None:
    tower = build("image", saved)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    preprocess = open_clip.image_transform(32, is_train=False)
    expected = saved[1].encode_image(torch.stack([preprocess(Image.fromarray(p)) for p in pixels]), normalize=True)
    ours = functional.normalize(tower(torch.from_numpy(pixels).permute(0, 3, 1, 2)), dim=-1)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    assert tower.projects
    assert tower.width == 24


@torch.no_grad()
def test_text_vectors_equal_open_clip(saved: Saved) -> None:
    tower = build("text", saved)
    tokens = tower.intake.tokenize(TEXTS)
    assert tokens.equal(open_clip.get_tokenizer(saved[0])(TEXTS))
    expected = saved[1].encode_text(tokens, normalize=True)
    torch.testing.assert_close(functional.normalize(tower(tokens), dim=-1), expected, atol=1e-6, rtol=0)


def test_towers_have_no_temperature(saved: Saved) -> None:
    names = [name for modality in ("image", "text") for name, _ in build(modality, saved).named_parameters()]
    assert not [name for name in names if "logit" in name]
    towers = {name.removeprefix("text.") for name in saved[1].state_dict() if not name.startswith(OUTSIDE)}
    assert len(names) == len(towers - {"attn_mask"})


@pytest.mark.parametrize(
    ("modality", "config", "message"),
    [
        ("image", {"encoder": "open_clip:ViT-B32"}, "did you mean `ViT-B-32`"),
        ("image", {"encoder": "open_clip:ViT-S-32", "options": {"depht": 2}}, "unexpected keyword argument 'depht'"),
        ("image", {"encoder": "open_clip:ViT-B-32", "options": {"pretrained": "opnai"}}, "did you mean `openai`"),
        ("image", {"encoder": "open_clip:ViT-B-32", "options": {"pretrained": "openai"}}, "ViT-B-32-quickgelu"),
    ],
)
def test_wrong_configs_are_rejected_in_one_line(modality: str, config: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_encoder(modality, TowerConfig(**config))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_resnets_reject_gradient_checkpointing(tmp_path: Path) -> None:
    resnet = {"embed_dim": 24, "text_cfg": TEXT, "vision_cfg": {**VISION, "layers": [1, 1, 1, 1], "width": 16}}
    (tmp_path / "tiny-resnet.json").write_text(json.dumps(resnet))
    open_clip.add_model_config(tmp_path)
    tower = build_encoder("image", TowerConfig(encoder="open_clip:tiny-resnet", frozen_batchnorm=True))
    assert len(tower.blocks()) == 4
    with pytest.raises(UserError, match="grad_checkpointing"):
        tower.checkpoint_gradients()


def test_padding_behind_the_longest_text_is_not_computed(saved: Saved) -> None:
    """Vectors and gradients are those of open_clip on texts of full length."""
    tower = build("text", saved).double()
    if saved[0] not in ("tiny-clip", "tiny-convnext"):
        pytest.skip("its attention is not causal, or it reads another token")
    tokens, shapes = tower.intake.tokenize(["a red boat", "", "two dogs"]), []  # type: ignore[union-attr]
    tower.model.transformer.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))  # type: ignore
    weights, gradients, vectors = list(tower.parameters()), [], []
    for encode in (tower, lambda values: tower.model(values)[0]):  # type: ignore[operator]
        vectors.append(encode(tokens))
        gradients.append(torch.autograd.grad(vectors[-1].square().sum(), weights))
    assert [shape[1] for shape in shapes] == [8, 16]
    torch.testing.assert_close(*vectors)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_tokens_equal_the_last_states_of_open_clip(saved: Saved) -> None:
    name, model, _ = saved
    image, text = build("image", saved), build("text", saved)
    pixels, words = rows_for(image.intake), rows_for(text.intake)
    if name != "tiny-clip":
        for tower, rows in ((image, pixels), *([] if name == "tiny-convnext" else [(text, words)])):
            with pytest.raises(UserError, match="this tower has no tokens, only one vector for each row"):
                tower.tokens(rows.values)
        return
    gives_tokens(image, pixels)
    gives_tokens(text, words)
    given = image.normalise(pixels.values)  # type: ignore[operator]
    seen = model.visual.forward_intermediates(given, 1, normalize_intermediates=True, output_fmt="NLC")  # type: ignore[union-attr, operator]
    patches = seen["image_intermediates"][0] @ model.visual.proj  # type: ignore[union-attr]
    torch.testing.assert_close(image.tokens(pixels.values).tokens, patches, atol=1e-5, rtol=0)
    found = text.tokens(words.values)
    for row, count in enumerate(found.counts.tolist()):
        torch.testing.assert_close(found.tokens[row, count - 1], found.vectors[row])  # the end token
        assert count == int((words.values[row] != 0).sum()) - 1
