"""CLIP, SigLIP and CLAP whole: the logits of transformers' own model, temperature and bias along with them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)  # fmt: skip

from tercet.data_pipelines.sample import Field
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.interop.transformers import pretrained_transformers
from tercet.models.multimodal import Multimodal
from tercet.training.pretrained import load_model

WORDS = ["<s>", "<pad>", "<unk>", "</s>", "a", "red", "boat", "two", "dogs"]
TEXTS = ["a red boat", "two dogs two dogs two dogs two", "a", "boat"]
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
IDS = {"vocab_size": 9, "bos_token_id": 0, "pad_token_id": 1}
PIXELS = {**TINY, "patch_size": 8, "image_size": 32}
SQUARE = {"height": 32, "width": 32}
HTSAT = {"patch_embeds_hidden_size": 16, "depths": [1, 1, 1, 1], "num_attention_heads": [2, 2, 2, 2],
         "hidden_size": 128, "projection_dim": 24}  # fmt: skip


def clip(eos: int) -> tuple[Any, Any]:
    """A joint space whose width the halves alone would not know. An `eos` of 2 is that of old configs, in error."""
    text = CLIPTextConfig(**TINY, **IDS, eos_token_id=eos, max_position_embeddings=16)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=CLIPVisionConfig(**PIXELS), projection_dim=24))
    model.logit_scale.data.fill_(3.5)
    return model, CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE)


def siglip() -> tuple[Any, Any]:
    text = SiglipTextConfig(**TINY, **IDS, eos_token_id=3, max_position_embeddings=12)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=SiglipVisionConfig(**PIXELS)))
    model.logit_scale.data.fill_(4.7)
    model.logit_bias.data.fill_(-12.9)
    return model, SiglipImageProcessor(size=SQUARE)


def clap() -> tuple[Any, Any]:
    text = ClapTextConfig(**TINY, **IDS, eos_token_id=3, max_position_embeddings=18)
    model = ClapModel(ClapConfig(text_config=text, audio_config=ClapAudioConfig(**HTSAT), projection_dim=24))
    model.logit_scale_a.data.fill_(3.1)
    model.logit_scale_t.data.fill_(2.2)
    return model, ClapFeatureExtractor(max_length_s=2, truncation="rand_trunc", frequency_min=50)


MADE: dict[str, Callable[[], tuple[Any, Any]]] = {
    "clip": lambda: clip(eos=3),
    "clip-old": lambda: clip(eos=2),
    "siglip": siglip,
    "clap": clap,
}
Saved = tuple[str, Path, Any, Any]


@pytest.fixture(scope="module", params=MADE)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("hf") / request.param
    torch.manual_seed(0)
    model, prepared = MADE[request.param]()
    model.save_pretrained(folder)
    prepared.save_pretrained(folder)
    write_tokenizer(folder)
    return request.param, folder, model.eval(), prepared


def write_tokenizer(folder: Path) -> None:
    words = Tokenizer(WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("saved", names, indirect=True)


def peers_logits(saved: Saved, media: list[Any]) -> Tensor:
    """Called as in the documentation of each model."""
    name, folder, model, prepared = saved
    padding = {"padding": "max_length", "max_length": 12} if name == "siglip" else {"padding": True}
    inputs = dict(AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", **padding))
    if name == "siglip":
        inputs = {"input_ids": inputs["input_ids"]}
    inputs.pop("token_type_ids", None)
    if name == "clap":
        waves = [wave.numpy() for wave in media]
        heard = prepared(waves, sampling_rate=48_000, return_tensors="pt")
        return model(**inputs, input_features=heard["input_features"].float()).logits_per_audio
    pixels = prepared(media, return_tensors="pt")["pixel_values"]
    return model(**inputs, pixel_values=pixels).logits_per_image


def our_logits(model: Multimodal, media: list[Tensor], modality: str) -> Tensor:
    lengths = torch.tensor([one.shape[-1] for one in media]) if modality == "audio" else None
    rows = torch.nn.utils.rnn.pad_sequence(media, batch_first=True) if modality == "audio" else torch.stack(media)
    vectors = model.embed_field(Field(modality, rows, torch.arange(len(rows)), lengths))
    scale, bias = model.head.temperature(model.terms[0])
    logits = scale * vectors @ model.embed_text(TEXTS).T
    return logits if bias is None else logits + bias


def given(name: str) -> tuple[list[Tensor], str]:
    generator = torch.Generator().manual_seed(1)
    if name == "clap":
        return [0.3 * torch.randn(length, generator=generator) for length in (96_000, 40_000, 7_001)], "audio"
    return [torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=generator) for _ in range(3)], "image"


@torch.no_grad()
def test_logits_equal_transformers(saved: Saved) -> None:
    media, modality = given(saved[0])
    model = load_model(f"hf:{saved[1]}")
    ours, expected = our_logits(model, media, modality), peers_logits(saved, media)
    assert expected.std() > 1e-3
    torch.testing.assert_close(ours, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_weights_cover_every_parameter_of_the_model(saved: Saved) -> None:
    """Including parameters that the towers already load on their own."""
    found = pretrained_transformers(str(saved[1]))
    weights, own = found.weights(), load_model(f"hf:{saved[1]}").state_dict()
    assert weights.keys() - {"logit_scale_t"} == own.keys()
    for name, value in own.items():
        assert torch.equal(weights[name].reshape(value.shape), value)


def test_settings_of_the_recipe(saved: Saved) -> None:
    found, source = pretrained_transformers(str(saved[1])), f"hf:{saved[1]}"
    assert found.source == source
    if saved[0] == "clap":
        assert found.model["audio"] == {"encoder": source, "seconds": 2.0, "frozen_batchnorm": True}
        assert found.terms == {"pairs": {"audio-text": 1.0}, "objective": {"name": "infonce"}}
    else:
        objective = "sigmoid" if saved[0] == "siglip" else "infonce"
        assert found.model == {"image": {"encoder": source}, "text": {"encoder": source}}
        assert found.terms == {"pairs": {"image-text": 1.0}, "objective": {"name": objective}}


@only("clap")
def test_the_scale_is_that_of_the_logits_per_audio_clip(saved: Saved) -> None:
    scale, bias = load_model(f"hf:{saved[1]}").head.temperature("audio-text")
    assert float(scale.detach()) == pytest.approx(np.exp(3.1))
    assert bias is None


@only("clip")
def test_a_temperature_beyond_the_bounds_is_rejected(saved: Saved, tmp_path: Path) -> None:
    saved[2].logit_scale.data.fill_(5.5)
    saved[2].save_pretrained(tmp_path)
    saved[3].save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match=r"its inverse temperature is 244\.692"):
        load_model(f"hf:{tmp_path}")


def test_a_single_tower_is_rejected(tmp_path: Path) -> None:
    BertModel(BertConfig(**TINY, vocab_size=9)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"^hf:.*: a BertModel is a single tower"):
        pretrained_transformers(str(tmp_path))


def test_a_missing_transformers_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"^hf:.*: it needs transformers; pip install 'tercet\[huggingface\]'"):
        load_model(f"hf:{tmp_path}")
    for modality in ("image", "audio", "text"):
        with pytest.raises(UserError, match=rf"model\.{modality}\.encoder: `hf:.*` needs transformers"):
            build_encoder(modality, TowerConfig(encoder=f"hf:{tmp_path}"))


def test_a_missing_repository_without_network_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^hf:tercet/absent: it is not in the cache .* cannot be downloaded") as caught:
        load_model("hf:tercet/absent")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"model\.text\.encoder: `hf:tercet/absent` is not in the cache"):
        build_encoder("text", TowerConfig(encoder="hf:tercet/absent"))


def test_folders_without_a_config_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json"):
        pretrained_transformers(str(tmp_path))


@only("siglip")
def test_missing_weights_are_rejected(saved: Saved, tmp_path: Path) -> None:
    held = {name: value for name, value in saved[2].state_dict().items() if name != "logit_bias"}
    saved[2].save_pretrained(tmp_path, state_dict=held)
    with pytest.raises(UserError, match="lacks 1 of the weights of its SiglipModel, such as logit_bias"):
        pretrained_transformers(str(tmp_path)).weights()
