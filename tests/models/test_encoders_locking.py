"""All families of towers: locking, gradient checkpointing and dummy rows."""

import copy
import json

import open_clip
import pytest
import torch
from torch import Tensor, nn

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import FAMILIES, Encoder, build_encoder
from tercet.models.tuning.locking import lock

TINY = {"depth": 3, "embed_dim": 32, "num_heads": 2}
TOWERS: dict[str, tuple[str, dict[str, object]]] = {
    "small-image": ("image", {"encoder": "small:image", "options": {"depth": 3, "width": 32}}),
    "small-audio": ("audio", {"encoder": "small:audio", "options": {"depth": 3, "width": 32}}),
    "small-text": ("text", {"encoder": "small:text", "options": {"depth": 3, "width": 32}}),
    "vit": ("image", {"encoder": "timm:vit_tiny_patch16_224", "size": 32, "options": {**TINY, "proj_drop_rate": 0.5}}),
    "naflex": ("audio", {"encoder": "timm:naflexvit_base_patch16_siglip", "options": TINY}),
    "open-clip-image": ("image", {"encoder": "open_clip:locked-tiny"}),
    "open-clip-text": ("text", {"encoder": "open_clip:locked-tiny"}),
}
OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3},
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "locked-tiny.json").write_text(json.dumps(OPEN_CLIP))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    shared = {"features": "small16k64", "seconds": 0.5}
    return {
        name: build_encoder(modality, TowerConfig(**{**shared, **config}))  # type: ignore[arg-type]
        for name, (modality, config) in TOWERS.items()
    }


def rows(encoder: Encoder) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    if encoder.modality == "image":
        return torch.randint(0, 256, (2, 3, *encoder.intake.size), generator=generator).to(torch.uint8), None
    if encoder.modality == "audio":
        return torch.randn(2, encoder.intake.window, generator=generator), torch.tensor([8_000, 5_000])
    return encoder.intake.tokenize(["a red ring", "two blue stars"]), None


def gradients(encoder: Encoder) -> dict[str, Tensor]:
    encoder.zero_grad()
    torch.manual_seed(2)
    vectors = encoder(*rows(encoder))
    (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("unlocked", [0, 1, 2])
def test_only_the_unlocked_blocks_train(fresh: dict[str, Encoder], name: str, unlocked: int) -> None:
    encoder = copy.deepcopy(fresh[name]).train()
    lock(encoder, unlocked)
    free = {id(parameter) for block in encoder.blocks()[len(encoder.blocks()) - unlocked :] for parameter in block}
    assert len(free) >= 12 * unlocked
    before = {key: parameter.detach().clone() for key, parameter in encoder.named_parameters()}
    if unlocked:
        gradients(encoder)
        for parameter in encoder.parameters():
            if parameter.grad is not None:
                parameter.data += parameter.grad.sign()
    else:
        assert not encoder(*rows(encoder)).requires_grad
    still = {key for key, parameter in encoder.named_parameters() if parameter.equal(before[key])}
    assert still == {key for key, parameter in encoder.named_parameters() if id(parameter) not in free}


@pytest.mark.parametrize("unlocked", [None, 1])
@pytest.mark.parametrize("name", TOWERS)
def test_gradient_checkpointing_changes_no_gradient(fresh: dict[str, Encoder], name: str, unlocked: int | None) -> None:
    """The input of the first block has no gradient if the stem is locked. Dropout must repeat its masks."""
    plain, recomputing = copy.deepcopy(fresh[name]).train(), copy.deepcopy(fresh[name]).train()
    recomputing.checkpoint_gradients()
    lock(plain, unlocked)
    lock(recomputing, unlocked)
    expected, ours = gradients(plain), gradients(recomputing)
    assert ours.keys() == expected.keys()
    assert ours.keys() == {key for key, parameter in plain.named_parameters() if parameter.requires_grad}
    for key, gradient in expected.items():
        torch.testing.assert_close(ours[key], gradient, atol=1e-6, rtol=1e-5)


def test_locked_parts_have_no_dropout(fresh: dict[str, Encoder]) -> None:
    encoder = copy.deepcopy(fresh["vit"])
    lock(encoder, 1)
    encoder.eval().train()
    blocks = encoder.model.blocks  # type: ignore[union-attr]
    assert [block.mlp.drop1.training for block in blocks] == [False, False, True]  # type: ignore[union-attr]
    lock(encoder, 0)
    values, _ = rows(encoder)
    assert encoder(values).equal(encoder(values))


def test_a_copy_refers_to_its_own_locked_modules(fresh: dict[str, Encoder]) -> None:
    encoder = copy.deepcopy(fresh["vit"])
    lock(encoder, 0)
    twin = copy.deepcopy(encoder)
    assert {id(part) for part in twin.still} <= {id(module) for module in twin.modules()}


def test_unlocking_too_many_blocks_is_rejected(fresh: dict[str, Encoder]) -> None:
    with pytest.raises(UserError, match=r"model.audio.unlocked is 4, but the tower has 3 blocks"):
        lock(copy.deepcopy(fresh["naflex"]), 4)


@torch.no_grad()
@pytest.mark.parametrize("name", TOWERS)
def test_a_dummy_row_has_the_shape_of_a_row(fresh: dict[str, Encoder], name: str) -> None:
    encoder = copy.deepcopy(fresh[name]).eval()
    values, lengths = encoder.dummy(torch.device("cpu"))
    vectors = encoder(values, lengths)
    assert vectors.shape == (1, encoder.width)
    assert vectors.isfinite().all()
    real, _ = rows(encoder)
    assert values.dtype == real.dtype
    assert values.shape[1:] == real.shape[1:]


def test_scalars_get_a_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(3.0))

    def build(name: str, config: TowerConfig) -> Encoder:
        tower = build_encoder("image", TowerConfig(encoder="small:image", options={"width": 32}))
        tower.add_module("scaled", Scaled())
        return tower

    monkeypatch.setitem(FAMILIES["image"]._entries, "scaled", build)
    tower = build_encoder("image", TowerConfig(encoder="scaled:any"))
    assert dict(tower.named_parameters())["scaled.scale"].tolist() == [3.0]
    assert all(parameter.ndim for parameter in tower.parameters())
