"""Models that transformers loads from an exported folder: its logits equal those of tercet, which reads them back."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

import tercet
from tercet.api.model import Model
from tercet.errors import UserError
from tercet.models.export.pair import pair_of
from tercet.models.export.reading import Samples
from tercet.models.export.transformers import read, write
from tercet.models.interop.clip_names import to_open_clip, to_transformers
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tercet.training.pretrained import open_model
from tests.models.test_encoders_open_clip_hf import SIGLIP as PRESSED
from tests.models.test_encoders_open_clip_hf import write_repository
from tests.models.test_export_open_clip import CONFIGS, built, clip, logits, space
from tests.models.test_export_open_clip import folder as architectures
from tests.models.test_interop_transformers import MADE, only, saved, write_tokenizer
from tests.models.test_laion_clap import HTSAT, ROBERTA

__all__ = ["architectures", "saved"]


def round_trip(source: Model, config: SpaceConfig, into: Path) -> Any:
    """Writes twice, with tercet's own import in between: the weights are equal to the bit."""
    for folder in ("one", "two"):
        (into / folder).mkdir()
    left_out = write(source.towers, config, into / "one")
    again, found = open_model(f"hf:{into / 'one'}")
    write(again, found, into / "two")
    first, second = (load_file(into / folder / "model.safetensors") for folder in ("one", "two"))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    return left_out


@torch.no_grad()
def test_halves_become_the_whole_model_again(saved: Any, tmp_path: Path) -> None:
    """Of CLIP, SigLIP and CLAP: the weights of the folder that they came from, and the logits of its own model."""
    name, source, model, _ = saved
    ours, config = open_model(f"hf:{source}")
    assert round_trip(Model(ours, name), config, tmp_path) == []
    written, original = load_file(tmp_path / "one/model.safetensors"), model.state_dict()
    other = {"logit_scale_t"} if name == "clap" else set()  # a term has one scale
    assert written.keys() == original.keys()
    assert all(torch.equal(value, original[key]) for key, value in written.items() if key not in other)
    given, peer = Samples(), AutoModel.from_pretrained(tmp_path / "one")
    found = read(tmp_path / "one", given)
    z = Model(ours, name).embed(**{modality: given.of(modality) for modality in found.vectors})
    for modality, vectors in found.vectors.items():
        torch.testing.assert_close(z[modality], vectors, atol=1e-5, rtol=0)
    assert type(peer).__name__ == type(model).__name__


def check_tokens(tokenizer: Any) -> None:
    """They are those of open_clip, up to the end token. Padding differs, and causal attention never reads it."""
    own = open_clip.get_tokenizer("ViT-B-32", context_length=16)
    texts = [*Samples().text, "It's 25°C, naïve café — 3,000 m", "UPPER lower", "", "a" * 200, "one two " * 30]
    found, expected = tokenizer(texts, padding="max_length", truncation=True)["input_ids"], own(texts)
    for ids, row, end in zip(found, expected.tolist(), expected.argmax(1).tolist(), strict=True):
        assert ids[: end + 1] == row[: end + 1]


@torch.no_grad()
def test_a_clip_of_open_clip_becomes_a_clip_model(tmp_path: Path) -> None:
    config = CONFIGS["clip"]()
    ours = Model(built(config), "ours")
    assert round_trip(ours, config, tmp_path) == []
    given = Samples(text=["A  red BOAT's mast", "two dogs &", "x" * 60])
    model, processor = AutoModel.from_pretrained(tmp_path / "one"), AutoProcessor.from_pretrained(tmp_path / "one")
    tokens = processor(text=given.text, return_tensors="pt", padding=True, truncation=True)
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "one", backend="pil")(given.image, return_tensors="pt")
    theirs = model(**tokens, **pixels).logits_per_image
    assert model.config.text_config.hidden_act == "quick_gelu"
    assert not any("in_proj" in name for name in model.state_dict())
    check_tokens(AutoTokenizer.from_pretrained(tmp_path / "one"))
    torch.testing.assert_close(logits(ours, given), theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


@timm.models.register_model
def tercet_tiny_siglip(pretrained: bool = False, **options: Any) -> Any:
    """A ViT like SigLIP's, which timm has in large sizes only."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "class_token": False}
    given = {**sizes, "global_pool": "map", "act_layer": "gelu_tanh", **options}
    return timm.models.vision_transformer._create_vision_transformer("vit_base_patch16_siglip_224", **given)


@torch.no_grad()
def test_a_siglip_of_open_clip_becomes_a_siglip_model(tmp_path: Path) -> None:
    repository = write_repository("roberta", tmp_path / "words")
    vision = {"image_size": 32, "timm_model_name": "tercet_tiny_siglip", "timm_pool": "map", "timm_proj": "none"}
    text = {**PRESSED["text_cfg"], "width": 32, "norm_kwargs": {"eps": 1e-6}, "hf_tokenizer_name": repository}
    described = {**PRESSED, "embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "export-tiny-siglip.json").write_text(json.dumps(described))
    open_clip.add_model_config(tmp_path / "export-tiny-siglip.json")
    config = clip("export-tiny-siglip", objective="sigmoid")
    ours = Model(built(config), "ours")
    assert round_trip(ours, config, tmp_path) == []
    given = Samples(text=["A red, red_BOAT", "two   dogs!", "a boat"])
    model, processor = AutoModel.from_pretrained(tmp_path / "one"), AutoProcessor.from_pretrained(tmp_path / "one")
    tokens = processor(text=given.text, return_tensors="pt", padding="max_length", truncation=True)
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "one", backend="pil")(given.image, return_tensors="pt")
    theirs = model(input_ids=tokens["input_ids"], **pixels).logits_per_image
    assert tokens["input_ids"].equal(open_clip.get_tokenizer("export-tiny-siglip")(given.text))
    assert (type(model).__name__, float(model.logit_bias)) == ("SiglipModel", -7.5)
    torch.testing.assert_close(logits(ours, given), theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


def test_names_are_the_same_after_both_directions() -> None:
    config = CONFIGS["clip"]()
    model = build_model(config.model, config.terms, 0)
    for modality in ("image", "text"):
        own = model.tower(modality).model.state_dict()  # type: ignore[union-attr, operator]
        again = to_open_clip(modality, to_transformers(modality, own))
        assert again.keys() == own.keys()
        assert all(torch.equal(value, own[name]) for name, value in again.items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pooler", r"model\.image \(`open_clip:export-tiny-custom`\): its vector is not that of the class token"),
        ("convnext", "it is a TimmModel, and CLIPModel has a ViT"),
        ("timm", r"model\.image \(`timm:test_vit`\): it is not a tower of a CLIPModel, SiglipModel or ClapModel"),
    ],
)
def test_towers_that_transformers_cannot_build_are_refused(name: str, message: str, tmp_path: Path) -> None:
    config = CONFIGS[name]()
    with pytest.raises(UserError, match=message):
        write(built(config), config, tmp_path)


def test_halves_of_two_kinds_are_refused_and_a_bias_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for name in ("clip", "siglip"):
        for part in MADE[name]():
            part.save_pretrained(tmp_path / name)
        write_tokenizer(tmp_path / name)
    clip, siglip = ({"encoder": f"hf:{tmp_path / name}"} for name in ("clip", "siglip"))
    sigmoid = space(clip, clip, objective="sigmoid")
    left_out = ["the bias of the logits, -7.5, which a CLIPModel does not have"]
    (tmp_path / "out").mkdir()
    assert write(built(sigmoid), sigmoid, tmp_path / "out") == left_out
    mixed = space({"encoder": "timm:test_vit"}, siglip)
    with pytest.raises(UserError, match=r"model\.image .*: it is not a tower of a CLIPModel, SiglipModel or ClapModel"):
        write(built(mixed), mixed, tmp_path / "mixed")
    with pytest.raises(UserError, match=r"needs a tower for audio, which the model lacks; export it as safetensors"):
        pair_of(built(mixed), mixed, ("image", "audio"), "transformers")


@only("siglip")
def test_the_public_function_compares_the_vectors(tmp_path: Path, saved: Any) -> None:
    done = tercet.export(f"hf:{saved[1]}", tmp_path / "out", "transformers")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= done.files.keys()
    assert done.difference is not None
    assert done.difference < 1e-5


@torch.no_grad()
def test_towers_of_laion_clap_become_a_clap_model(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    width = {"projection_dim": 24}
    audio = {"encoder": "laion_clap:HTSAT-tiny", "frozen_batchnorm": True, "options": {**HTSAT, **width}}
    text = {"encoder": "laion_clap:roberta", "options": {**ROBERTA, **width, "tokenizer": str(tmp_path)}}
    model = {"audio": audio, "text": text}
    config = SpaceConfig.model_validate({"model": model, "pairs": {"audio-text": 1.0}})
    ours, given = Model(built(config), "ours"), Samples()
    assert round_trip(ours, config, tmp_path) == []
    found = read(tmp_path / "one", given)
    z = ours.embed(audio=given.audio, text=given.text)
    assert (z.audio[0] - z.audio[1]).abs().max() > 1e-4
    for modality in ("audio", "text"):
        torch.testing.assert_close(z[modality], found.vectors[modality], atol=1e-5, rtol=0)
