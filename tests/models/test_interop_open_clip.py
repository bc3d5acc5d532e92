"""open_clip's models under our names, against its own forward; and weights that do not fit, each in one line."""

import json
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from tercet.errors import UserError
from tercet.models.config import ModelConfig
from tercet.models.encoders.image import ImageEncoder
from tercet.models.interop.folder import export_folder
from tercet.models.interop.pretrained import load_towers
from tercet.models.interop.unused_weights import unused_weights
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.space import SpaceConfig
from tercet.models.term_config import TermConfig
from tercet.training.pretrained import load_model, load_weights, pretrained
from tercet.training.recipe import load_recipe
from tests.models.test_encoders_open_clip import MODELS, TEXT, TEXTS, VISION

SIGLIP = {
    "embed_dim": 64, "init_logit_bias": -10, "init_logit_scale": 2.3, "custom_text": True,
    "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {**TEXT, "width": 64, "pool_type": "last", "no_causal_mask": True, "proj_bias": True},
}  # fmt: skip
COCA = {**MODELS["tiny-coca"], "text_cfg": {**TEXT, "width": 24, "heads": 4, "embed_cls": True, "output_tokens": True}}
RESNET = {**MODELS["tiny-clip"], "vision_cfg": {**VISION, "layers": [1, 1, 1, 1], "width": 16}}
LAYOUTS = {**MODELS, "tiny-coca-whole": COCA, "tiny-sigmoid": SIGLIP, "tiny-batchnorm": RESNET}
del LAYOUTS["tiny-coca"]  # whose decoder does not fit its text tower: its forward never runs
OTHERS = {  # of the tiny CLIP, each in one respect
    "tiny-longer": {**MODELS["tiny-clip"], "text_cfg": {**TEXT, "context_length": 20}},
    "tiny-wordy": {**MODELS["tiny-clip"], "text_cfg": {**TEXT, "vocab_size": 49410}},
    "tiny-patchy": {**MODELS["tiny-clip"], "vision_cfg": {**VISION, "patch_size": 4, "image_size": 16}},
    "tiny-wider": {**MODELS["tiny-clip"], "vision_cfg": {**VISION, "width": 96}},
    "tiny-deeper": {**MODELS["tiny-clip"], "text_cfg": {**TEXT, "layers": 3}},
}
SCALE, BIAS = 3.3, -7.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open_clip")
    for name, config in {**LAYOUTS, **OTHERS}.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return folder


def theirs(name: str) -> nn.Module:
    """A model as open_clip builds it, with random weights and a temperature that no model starts with."""
    torch.manual_seed(0)
    model: Any = open_clip.create_model(name).eval()
    with torch.no_grad():
        model.logit_scale.fill_(SCALE)
        if model.logit_bias is not None:
            model.logit_bias.fill_(BIAS)
    return model


def saved(name: str, folder: Path) -> tuple[nn.Module, Path]:
    model, path = theirs(name), folder / f"{name}.pt"
    torch.save(model.state_dict(), path)
    return model, path


@torch.no_grad()
def our_logits(model: Multimodal, pictures: list[Image.Image], term: str = "image-text") -> Tensor:
    pixels = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])
    scale, bias = model.head.temperature(term)
    logits = scale * model.head("image", model.tower("image")(pixels)) @ model.embed_text(TEXTS).T
    return logits if bias is None else logits + bias


@torch.no_grad()
def their_logits(name: str, model: Any, pictures: list[Image.Image]) -> Tensor:
    """By their preprocessing, tokenizer and forward."""
    size = model.visual.image_size
    preprocess = open_clip.image_transform(size, is_train=False)
    model.output_dict = True
    out = model(torch.stack([preprocess(picture) for picture in pictures]), open_clip.get_tokenizer(name)(TEXTS))
    logits: Tensor = out["logit_scale"] * out["image_features"] @ out["text_features"].T
    return logits + out["logit_bias"] if "logit_bias" in out else logits


def pictures(size: int) -> list[Image.Image]:
    """A ramp, a disc and noise."""
    y, x = np.mgrid[:size, :size] / size
    disc = ((x - 0.4) ** 2 + (y - 0.6) ** 2 < 0.1) * 1.0
    noise = np.random.default_rng(0).random((size, size, 3))
    arrays = [np.stack([x, y, 1 - x], -1), np.stack([disc, 1 - disc, 0.5 * x], -1), noise]
    return [Image.fromarray((255 * array).astype(np.uint8)) for array in arrays]


@pytest.mark.parametrize("name", LAYOUTS)
def test_logits_equal_open_clips_forward(name: str, folder: Path) -> None:
    model, path = saved(name, folder)
    seen = pictures(160 if name == "tiny-sigmoid" else 32)
    expected = their_logits(name, model, seen)
    ours = our_logits(load_model(f"open_clip:{name}/{path}"), seen)
    assert expected.std() > 1e-3, "equal logits would prove nothing"
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("tiny-clip", 48), ("tiny-clip", 24), ("tiny-sigmoid", 192)])
@torch.no_grad()
def test_positions_are_interpolated_as_in_open_clip(name: str, size: int, folder: Path) -> None:
    _, path = saved(name, folder)
    found = pretrained(f"open_clip:{name}/{path}")
    towers = {**found.model, "image": {**found.model["image"], "size": size}}
    config = SpaceConfig.model_validate({"model": towers, **found.terms})
    model = build_model(config.model, config.terms, seed=0).eval()
    load_towers(model, found.weights(), "weights")
    expected: Any = open_clip.create_model(name, pretrained=str(path), force_image_size=size).eval()
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    tower = model.tower("image")
    assert isinstance(tower, ImageEncoder)
    torch.testing.assert_close(
        model.head("image", tower(pixels)), expected.encode_image(tower.normalise(pixels), normalize=True)
    )


@pytest.mark.parametrize("name", ["tiny-custom", "tiny-sigmoid"])
def test_weights_with_a_bias_use_the_sigmoid_loss(name: str, folder: Path) -> None:
    _, path = saved(name, folder)
    assert pretrained(f"open_clip:{name}/{path}").terms["objective"] == {"name": "sigmoid"}
    assert pretrained(f"open_clip:tiny-clip/{saved('tiny-clip', folder)[1]}").terms["objective"] == {"name": "infonce"}


def test_prefixes_of_wrappers_are_removed(folder: Path) -> None:
    model, plain = saved("tiny-clip", folder)
    state = model.state_dict()
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": v for n, v in state.items()}}, folder / "parallel.pt")
    torch.save({"state_dict": {f"_orig_mod.{n}": v for n, v in state.items()}}, folder / "compiled.bin")
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "plain.safetensors")
    expected = pretrained(f"open_clip:tiny-clip/{plain}").weights()
    for other in ("parallel.pt", "compiled.bin", "plain.safetensors"):
        read = pretrained(f"open_clip:tiny-clip/{folder / other}").weights()
        assert read.keys() == expected.keys()
        assert all(torch.equal(value, read[name]) for name, value in expected.items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny-longer", r"context length is 16, but that of the text tower is 20; remove"),
        ("tiny-wordy", r"tokenizer has 49408 tokens, but that of the text tower has 49410; use"),
        ("tiny-patchy", r"conv1.weight` has shape .* but the model needs .* of another architecture than model.image"),
        ("tiny-wider", r"is of another architecture than model.image"),
        ("tiny-deeper", r"it lacks `towers.text.*resblocks.2.*of another architecture than model.text"),
    ],
)
def test_weights_that_do_not_fit_are_rejected(name: str, message: str, folder: Path) -> None:
    _, path = saved("tiny-clip", folder)
    with pytest.raises(UserError, match=message) as caught:
        load_model(f"open_clip:{name}/{path}")
    assert "\n" not in str(caught.value)


def built(objective: dict[str, Any], between: tuple[str, str] = ("image", "text"), **model: Any) -> Multimodal:
    towers = {m: {"encoder": "open_clip:tiny-custom"} for m in ("image", "text")}
    term = TermConfig.model_validate({"between": between, "objective": objective})
    return build_model(ModelConfig.model_validate({**towers, **model}), [term], seed=1)


def test_the_temperature_goes_to_the_term_of_the_same_modalities(folder: Path) -> None:
    model, path = saved("tiny-custom", folder)
    weights = pretrained(f"open_clip:tiny-custom/{path}").weights()
    turned = built({"name": "sigmoid"}, ("text", "image"))
    load_towers(turned, weights, "weights")
    expected = their_logits("tiny-custom", model, pictures(32))
    torch.testing.assert_close(our_logits(turned, pictures(32), "text-image"), expected, rtol=1e-6, atol=1e-5)
    without_bias = built({"name": "infonce"})
    load_towers(without_bias, weights, "weights")
    torch.testing.assert_close(our_logits(without_bias, pictures(32)), expected - BIAS, rtol=1e-6, atol=1e-5)
    with pytest.raises(UserError, match=r"temperature is 27.1126, outside of objective.bounds \[1, 20\]; widen"):
        load_towers(built({"name": "sigmoid", "bounds": [1, 20]}), weights, "weights")
    with pytest.raises(UserError, match=r"dim is 32, but the image tower `open_clip:tiny-custom` projects into 24"):
        built({"name": "sigmoid"}, dim=32)


def test_unused_weights_are_listed_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, path = saved("tiny-custom", folder)
    weights = pretrained(f"open_clip:tiny-custom/{path}").weights()
    assert unused_weights(built({"name": "sigmoid"}, ("text", "image")), weights) == []
    more = {"text_decoder.norm.weight": 0, "text_decoder.norm.bias": 0, "towers.audio.norm.weight": 0}
    more |= {"head.temperatures.audio-text.log_scale": 0}
    load_weights(built({"name": "infonce"}), weights | {name: torch.zeros(1) for name in more}, "theirs")
    listed = "the audio tower, the bias of image-text, the temperature of audio-text"
    assert capsys.readouterr().err.endswith(f"has no place for it: `text_decoder`, {listed}\n")


def test_towers_without_weights_keep_their_initial_weights(folder: Path) -> None:
    _, path = saved("tiny-custom", folder)
    audio = {"encoder": "small:audio", "features": "small16k64", "seconds": 0.5, "options": {"width": 32, "heads": 2}}
    model, fresh = built({"name": "sigmoid"}, audio=audio), built({"name": "sigmoid"}, audio=audio)
    load_towers(model, pretrained(f"open_clip:tiny-custom/{path}").weights(), "weights")
    before, after = fresh.state_dict(), model.state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert {"image", "text"} <= changed
    assert "audio" not in changed


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (str(self.mark),)


def test_files_without_weights_are_rejected(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "code.pt").write_bytes(pickle.dumps({"state_dict": Runs(tmp_path / "mark")}, protocol=2))
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 9)
    (tmp_path / "cut.pt").write_bytes(saved("tiny-clip", folder)[1].read_bytes()[:9000])
    torch.save({"epoch": 3, "name": "x"}, tmp_path / "none.pt")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pt")
    (tmp_path / "photos.csv").write_text("path,caption\n1.png,a boat\n")
    (tmp_path / "horn.wav").write_bytes(b"RIFF" + bytes(60))
    (tmp_path / "empty.pt").touch()
    for name, message in {
        **dict.fromkeys(("photos.csv", "horn.wav", "empty.pt"), r"is not a checkpoint from torch\.save"),
        "code.pt": "might run code",
        "junk.safetensors": "cannot read weights",
        "cut.pt": "cannot read weights",
        "none.pt": "holds no weights by name",
        "other.pt": r"holds no tower in open_clip's layout",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            pretrained(f"open_clip:tiny-clip/{tmp_path / name}")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("open_clip:ViT-B32/openai", "did you mean `ViT-B-32`"),
        ("open_clip:ViT-B-32", "names no weights; add a tag or a file, such as open_clip:ViT-B-32/"),
        ("open_clip:ViT-B-32/opnai", "is neither a file nor a tag of `ViT-B-32`; did you mean `openai`"),
        ("nowhere", "there is no model `nowhere`"),
        ("hf:", "there is no model `hf:`"),
    ],
)
def test_wrong_names_are_rejected(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pretrained(spec)


def test_a_tag_sets_activation_and_normalisation() -> None:
    assert pretrained("open_clip:ViT-B-32/openai").model["image"]["encoder"] == "open_clip:ViT-B-32-quickgelu"
    assert pretrained("open_clip:ViT-B-32/laion2b_s34b_b79k").model["text"]["encoder"] == "open_clip:ViT-B-32"
    siglip = pretrained("open_clip:ViT-B-16-SigLIP/webli")
    assert siglip.terms["objective"] == {"name": "sigmoid"}
    assert siglip.model["image"]["options"]["force_preprocess_cfg"]["mean"] == [0.5, 0.5, 0.5]


def test_a_missing_download_without_network_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"is not in the cache .* cannot be downloaded; run once with network"
    ) as caught:
        pretrained("open_clip:ViT-B-32/laion2b_s34b_b79k").weights()
    assert "\n" not in str(caught.value)


def test_the_recipe_image_text_takes_its_dimensions_from_the_towers(folder: Path) -> None:
    overrides = [f"model.{modality}.encoder=open_clip:tiny-clip" for modality in ("image", "text")]
    config = load_recipe("image_text", overrides)
    assert build_model(config.model, config.terms, 0).embed_text(TEXTS).shape[1] == MODELS["tiny-clip"]["embed_dim"]
    config = load_recipe("image_text", [*overrides, "model.text.encoder=open_clip:tiny-sigmoid"])
    with pytest.raises(UserError, match=r"different dimensions \(image `open_clip:tiny-clip` 24, text .* 64\)"):
        build_model(config.model, config.terms, 0)


def test_an_exported_folder_reads_back_equal(folder: Path, tmp_path: Path) -> None:
    model, path = saved("tiny-sigmoid", folder)
    found = pretrained(f"open_clip:tiny-sigmoid/{path}")
    config = SpaceConfig.model_validate({"model": found.model, **found.terms})
    exported = export_folder(load_model(f"open_clip:tiny-sigmoid/{path}"), config, tmp_path / "exported")
    path.unlink()
    again = load_model(str(exported))
    seen = pictures(160)
    torch.testing.assert_close(our_logits(again, seen), their_logits("tiny-sigmoid", model, seen), rtol=1e-6, atol=1e-5)
    assert sorted(file.name for file in exported.iterdir()) == ["config.yaml", "model.safetensors"]
