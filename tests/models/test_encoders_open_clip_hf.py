"""open_clip models with a text tower or tokenizer from Hugging Face. The tests use tiny models and no network."""

import json
import sys
from io import BytesIO
from pathlib import Path

import huggingface_hub.constants as hub
import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from tercet.data_pipelines.decode.image import decode_image
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import Encoder, build_encoder

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "red", "boat", "two", "dogs"]
TEXTS = ["a red boat", "", "two dogs two dogs two dogs two dogs two dogs"]
IDS = {"vocab_size": len(WORDS), "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
M2M = {"d_model": 32, "decoder_layers": 1, "encoder_layerdrop": 0.0, "encoder_attention_heads": 2, "dropout": 0.0}
ROBERTA = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_dropout_prob": 0.0}
TRANSFORMERS = {
    "roberta": {**ROBERTA, "intermediate_size": 64, "attention_probs_dropout_prob": 0.0},
    "mt5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0},
    "m2m_100": {**M2M, "encoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "attention_dropout": 0.0},
}
VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
CAPTIONER = {
    "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
    "multimodal_cfg": {"context_length": 8, "vocab_size": len(WORDS), "width": 24, "heads": 4, "layers": 1},
}
SIGLIP = {
    "embed_dim": 64, "init_logit_bias": -10, "custom_text": True,
    "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {"width": 64, "heads": 2, "layers": 2, "pool_type": "last", "no_causal_mask": True, "proj_bias": True,
                 "context_length": 8, "vocab_size": len(WORDS), "tokenizer_kwargs": {"clean": "canonicalize"}},
}  # fmt: skip
MODELS = ("tiny-roberta", "tiny-mt5", "tiny-m2m_100", "tiny-coca-roberta", "tiny-pressed")
Saved = tuple[str, torch.nn.Module, Path]


def write_repository(kind: str, folder: Path) -> str:
    """A folder like a repository: a transformer with random weights and a tokenizer of whole words."""
    words = Tokenizer(WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    AutoModel.from_config(AutoConfig.for_model(kind, **TRANSFORMERS[kind], **IDS)).save_pretrained(folder)
    return str(folder)


def tiny_model(name: str, folder: Path) -> dict[str, object]:
    if name == "tiny-pressed":
        repository = write_repository("roberta", folder / "roberta")
        return {**SIGLIP, "text_cfg": {**SIGLIP["text_cfg"], "hf_tokenizer_name": repository}}  # type: ignore[dict-item]
    kind = name.split("-")[-1]
    repository = write_repository(kind, folder / kind)
    text = {"hf_model_name": repository, "hf_tokenizer_name": repository, "context_length": 8, "hf_proj_type": "mlp"}
    if name.startswith("tiny-coca"):
        text = {**text, "output_tokens": True, "vocab_size": len(WORDS)}
        return {"embed_dim": 24, "custom_text": True, "text_cfg": text, **CAPTIONER}
    return {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": text}


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("saved", names, indirect=True)


@pytest.fixture(scope="module", params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A model that open_clip builds, and a file with its random weights."""
    folder = tmp_path_factory.mktemp("open_clip")
    torch.manual_seed(0)
    (folder / f"{request.param}.json").write_text(json.dumps(tiny_model(request.param, folder)))
    open_clip.add_model_config(folder)
    model = open_clip.create_model(request.param, pretrained_text=False).eval()
    torch.save(model.state_dict(), folder / "weights.pt")
    return request.param, model, folder / "weights.pt"


@pytest.fixture
def absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model whose repository is not in the cache, on a machine without network."""
    text = {"hf_model_name": "tercet/absent", "hf_tokenizer_name": "tercet/absent"}
    config = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": text}
    (tmp_path / "tiny-absent.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    return "open_clip:tiny-absent"


def build(modality: str, saved: Saved, **options: object) -> Encoder:
    config = TowerConfig(encoder=f"open_clip:{saved[0]}", options={"pretrained": str(saved[2]), **options})
    return build_encoder(modality, config).eval()


@torch.no_grad()
def test_image_vectors_equal_open_clip(saved: Saved) -> None:
    tower = build("image", saved)
    pixels = torch.randint(0, 256, (3, 3, *tower.intake.size), dtype=torch.uint8)
    expected = saved[1].encode_image(tower.normalise(pixels), normalize=True)
    torch.testing.assert_close(functional.normalize(tower(pixels), dim=-1), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_text_vectors_equal_open_clip(saved: Saved) -> None:
    tower = build("text", saved)
    tokens = tower.intake.tokenize(TEXTS)
    assert tokens.equal(open_clip.get_tokenizer(saved[0])(TEXTS))
    assert tokens.shape == (3, 8)
    expected = saved[1].encode_text(tokens, normalize=True)
    torch.testing.assert_close(functional.normalize(tower(tokens), dim=-1), expected, atol=1e-6, rtol=0)
    assert tower(tower.dummy(torch.device("cpu"))[0]).isfinite().all()


def test_blocks_contain_all_but_the_embeddings(saved: Saved) -> None:
    tower = build("text", saved)
    blocks = tower.blocks()
    held = {id(parameter) for block in blocks for parameter in block}
    assert len(blocks) == 2
    assert len(held) == sum(len(block) for block in blocks)
    left = {name.removeprefix("model.") for name, parameter in tower.named_parameters() if id(parameter) not in held}
    assert left
    assert all(name.startswith(("token_emb", "positional_emb", "transformer.embed")) for name in left)


def test_gradient_checkpointing_changes_no_gradient(saved: Saved) -> None:
    tower = build("text", saved).train()
    tokens, target = tower.intake.tokenize(TEXTS[:2]), torch.randn(2, tower.width)
    plain = torch.autograd.grad((tower(tokens) * target).sum(), list(tower.parameters()), allow_unused=True)
    calls = []
    part = next(module for module in tower.modules() if isinstance(module, torch.nn.ModuleList))[0]
    inner = next(module for module in part.modules() if isinstance(module, torch.nn.LayerNorm | torch.nn.Linear))
    inner.register_forward_hook(lambda *_: calls.append(1))
    tower.checkpoint_gradients()
    again = torch.autograd.grad((tower(tokens) * target).sum(), list(tower.parameters()), allow_unused=True)
    assert len(calls) == 2
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)


@only("tiny-roberta")
def test_a_transformer_starts_from_its_pretrained_weights(saved: Saved) -> None:
    repository = open_clip.get_model_config(saved[0])["text_cfg"]["hf_model_name"]
    first = next(AutoModel.from_pretrained(repository).parameters())
    own, random = (
        next(build("text", saved, pretrained=None, pretrained_text=given).parameters()) for given in (True, False)
    )
    assert own.equal(first)
    assert not random.equal(first)


@only("tiny-roberta", "tiny-coca-roberta")
def test_incomplete_image_weights_are_rejected(saved: Saved, tmp_path: Path) -> None:
    torch.save({name: value for name, value in saved[1].state_dict().items() if "ln_post" not in name}, tmp_path / "w")
    with pytest.raises(UserError, match=r"does not fit the image tower: visual\.ln_post.* is missing"):
        build("image", saved, pretrained=str(tmp_path / "w"))


@only("tiny-roberta", "tiny-pressed")
def test_images_are_squashed_if_the_weights_expect_it(saved: Saved) -> None:
    taken = {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear"}
    tower = build("image", saved, force_preprocess_cfg=taken)
    noise = np.random.default_rng(0).integers(0, 256, (90, 210, 3), dtype=np.uint8)
    picture, file = Image.fromarray(noise), BytesIO()
    picture.save(file, "png")
    expected = image_transform_v2(PreprocessCfg(size=tower.intake.size, **taken), is_train=False)(picture)
    ours_HWC = torch.from_numpy(decode_image(file.getvalue(), tower.intake, CentreView(), exact=True))
    ours = tower.normalise(ours_HWC.permute(2, 0, 1))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@only("tiny-roberta")
def test_padded_images_are_rejected(saved: Saved) -> None:
    with pytest.raises(UserError, match="`longest` is not supported"):
        build("image", saved, force_preprocess_cfg={"resize_mode": "longest"})


def test_a_missing_repository_without_network_fails_at_once(absent: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        UserError, match=r"`tercet/absent` from Hugging Face is not in the cache .* cannot be downloaded"
    ) as caught:
        build_encoder("text", TowerConfig(encoder=absent))
    assert "\n" not in str(caught.value)
    assert "Retrying" not in caplog.text
    assert not hub.HF_HUB_OFFLINE


def test_a_missing_transformers_package_is_named(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs transformers; pip install 'tercet\[huggingface\]'"):
        build_encoder("text", TowerConfig(encoder=absent))


def test_image_towers_need_nothing_from_hugging_face(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert build_encoder("image", TowerConfig(encoder=absent)).width == 24
