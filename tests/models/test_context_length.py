"""Texts of another length than the weights were trained with: positions are cut or stretched, and short texts stay."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from tercet.errors import UserError
from tercet.models.config import ModelConfig, TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.encoder import Encoder
from tercet.models.interop.pretrained import load_towers
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.term_config import TermConfig
from tercet.models.tuning.positions import lengthened
from tests.models.test_encoders_hf_text import write

SHORT = ["a red boat", "", "two dogs left of a house"]
LONG = " ".join(f"word{number}" for number in range(80))
TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def naive(positions_PD: Tensor, places: int, kept: int) -> Tensor:
    """One position at a time: on the line between its two neighbours, or on the one through the last two."""
    rest, rows = positions_PD[kept:].double(), list(positions_PD[:kept].double())
    factor = (places - kept) / len(rest)
    for place in range(places - kept):
        low = min(int(place / factor), len(rest) - 2)
        rows.append(rest[low] + (place / factor - low) * (rest[low + 1] - rest[low]))
    return torch.stack(rows).float()


def test_77_positions_become_248_as_in_long_clip() -> None:
    old = torch.randn(77, 3, generator=torch.Generator().manual_seed(0))
    new = lengthened(old, 248, 20)
    assert new is not None
    assert torch.equal(new[:20], old[:20])
    assert torch.equal(new[20:248:4], old[20:]), "every fourth is an old one"
    torch.testing.assert_close(new[21:245:4], 0.75 * old[20:76] + 0.25 * old[21:77])
    torch.testing.assert_close(new[247], old[76] + 0.75 * (old[76] - old[75]))


@given(st.integers(2, 20), st.integers(0, 18), st.integers(1, 60))
def test_positions_are_those_of_a_naive_loop(before: int, kept: int, after: int) -> None:
    old = torch.randn(before, 2, generator=torch.Generator().manual_seed(before))
    new = lengthened(old, after, kept)
    if after <= before:
        assert new is not None
        assert torch.equal(new, old[:after])
    elif before - kept < 2:
        assert new is None
    else:
        assert new is not None
        assert torch.equal(new[:kept], old[:kept])
        torch.testing.assert_close(new, naive(old, after, kept), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    (folder / "context-clip.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    torch.save(open_clip.create_model("context-clip").state_dict(), folder / "weights.pt")
    write("bert", folder / "hf")
    config = CLIPTextConfig(
        vocab_size=9, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16, projection_dim=24, bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = CLIPTextModelWithProjection(config)
    nn.init.normal_(model.text_model.embeddings.position_embedding.weight)
    model.save_pretrained(folder / "hf")
    return folder


def tower_of(kind: str, folder: Path, **changes: Any) -> Encoder:
    config: dict[str, Any] = {
        "small": {"encoder": "small:text", "options": {"width": 32, "heads": 2}},
        "open_clip": {
            "encoder": "open_clip:context-clip", "options": {"pretrained": str(folder / "weights.pt")},
        },
        "hf": {"encoder": f"hf:{folder / 'hf'}"},
    }[kind]  # fmt: skip
    torch.manual_seed(0)
    return build_encoder("text", TowerConfig.model_validate(config | changes)).eval()


def table(tower: Encoder) -> Tensor:
    return next(value for name, value in tower.named_parameters() if "pos" in name and value.ndim == 2)


@pytest.mark.parametrize("kind", ["open_clip", "hf"])
@torch.no_grad()
def test_pretrained_towers_keep_the_vectors_of_short_texts(kind: str, folder: Path) -> None:
    own, longer = tower_of(kind, folder), tower_of(kind, folder, context_length=34, keep_positions=10)
    assert torch.equal(table(longer), lengthened(table(own), 34, 10))  # type: ignore[arg-type]
    assert longer.intake.shape == (34,)
    tokens = own.intake.tokenize(SHORT), longer.intake.tokenize(SHORT)  # type: ignore[attr-defined]
    assert torch.equal(longer(tokens[1]), own(tokens[0])), "texts of 10 tokens or fewer"
    long = ["a red boat " * 7 + "two dogs"]
    assert not torch.equal(longer(longer.intake.tokenize(long)), own(own.intake.tokenize(long)))  # type: ignore[attr-defined]
    shorter = tower_of(kind, folder, context_length=9)
    assert torch.equal(table(shorter), table(own)[:9])
    assert torch.equal(shorter(shorter.intake.tokenize(SHORT)), own(tokens[0]))  # type: ignore[attr-defined]


def small(**text: Any) -> Multimodal:
    towers = {
        "dim": 16,
        "image": {"encoder": "small:image", "size": text.pop("side", 32), "options": {"width": 32, "heads": 2}},
        "text": {"encoder": "small:text", "options": {"width": 32, "heads": 2}, **text},
    }
    return build_model(ModelConfig.model_validate(towers), [TermConfig(between=("image", "text"))], seed=0).eval()


@torch.no_grad()
def test_init_fits_positions_and_nothing_else() -> None:
    own = small()
    weights = {name: value.clone() for name, value in own.state_dict().items()}
    changed = small(context_length=80, side=64)
    load_towers(changed, weights, "weights")
    found = changed.state_dict()
    differ = {name for name, value in found.items() if not torch.equal(value, weights[name])}
    assert differ == {"towers.text.positions", "towers.image.positions"}
    assert torch.equal(found["towers.text.positions"], lengthened(weights["towers.text.positions"], 80, 20))  # type: ignore[arg-type]
    assert torch.equal(changed.embed_text(SHORT), own.embed_text(SHORT))
    assert not torch.equal(changed.embed_text([LONG]), own.embed_text([LONG]))


def test_positions_that_cannot_be_stretched_are_refused_in_one_line(folder: Path) -> None:
    weights = small(options={"width": 32, "heads": 2, "context": 12}).state_dict()
    with pytest.raises(UserError, match=r"context length is 12, .* is 32; remove the length .*context_length=32"):
        load_towers(small(), weights, "weights")
    with pytest.raises(UserError, match=r"keep_positions below 11"):
        load_towers(small(context_length=32), weights, "weights")
    for kind in ("open_clip", "hf"):
        with pytest.raises(UserError, match=r"model.text.context_length: the 16 positions .* cannot become 40; set"):
            tower_of(kind, folder, context_length=40, keep_positions=15)


def test_a_context_length_is_given_once_and_to_texts() -> None:
    with pytest.raises(ValidationError, match=r"and `options.context` are both given; remove the option"):
        TowerConfig.model_validate({"context_length": 8, "options": {"context": 8}})
    with pytest.raises(ValidationError, match=r"applies to the text tower only"):
        ModelConfig.model_validate({"image": {"encoder": "small:image", "context_length": 8}})
