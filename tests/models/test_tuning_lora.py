"""Low-rank updates on all families of towers: initially without effect, trained alone, merged exactly."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tercet.errors import UserError
from tercet.models.config import LoraConfig, TowerConfig
from tercet.models.encoders import Encoder, build_encoder
from tercet.models.tuning.lora import add_lora
from tercet.models.tuning.plain import merge
from tests.models.test_encoders_hf_text import write
from tests.models.test_encoders_locking import TOWERS, fresh, gradients, rows

__all__ = ["fresh"]

CONFIG = LoraConfig(rank=2, alpha=6)


def adapted(encoder: Encoder, config: LoraConfig = CONFIG, drawn: bool = True) -> Encoder:
    """A copy with updates; `drawn` gives them random values instead of their initial ones."""
    encoder = copy.deepcopy(encoder).eval()
    add_lora(encoder, config)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in encoder.named_parameters():
        if drawn and "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return encoder.eval()


@torch.no_grad()
def assert_same_vectors(one: Encoder, other: Encoder) -> None:
    """Up to rounding: with updates, queries, keys and values are projected separately."""
    torch.testing.assert_close(one(*rows(one)), other(*rows(other)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TOWERS)
def test_initial_updates_have_no_effect(fresh: dict[str, Encoder], name: str) -> None:
    plain = copy.deepcopy(fresh[name]).eval()
    assert_same_vectors(adapted(plain, drawn=False), plain)


@pytest.mark.parametrize("name", TOWERS)
def test_only_the_updates_train(fresh: dict[str, Encoder], name: str) -> None:
    encoder = adapted(fresh[name])
    trained = {key for key, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert trained == {key for key, _ in encoder.named_parameters() if "lora_" in key}
    assert set(gradients(encoder)) == trained


@pytest.mark.parametrize("name", ["vit", "open-clip-image", "open-clip-text"])
def test_gradient_checkpointing_changes_no_gradient(fresh: dict[str, Encoder], name: str) -> None:
    plain = adapted(fresh[name])
    recomputing = copy.deepcopy(plain)
    recomputing.checkpoint_gradients()
    expected, ours = gradients(plain), gradients(recomputing)
    assert expected.keys() == ours.keys()
    assert all(torch.allclose(ours[key], value, atol=1e-6) for key, value in expected.items())


@pytest.mark.parametrize("name", TOWERS)
def test_merged_weights_give_the_same_vectors(fresh: dict[str, Encoder], name: str) -> None:
    encoder, plain = adapted(fresh[name]), copy.deepcopy(fresh[name]).eval()
    before = plain(*rows(plain))
    plain.load_state_dict(merge(encoder.state_dict(), CONFIG))
    assert (plain(*rows(plain)) - before).abs().max() > 1e-3, "the updates change nothing, so nothing was compared"
    assert_same_vectors(encoder, plain)


@pytest.mark.parametrize("name", ["vit", "open-clip-image", "open-clip-text"])
def test_merged_updates_equal_those_of_peft(fresh: dict[str, Encoder], name: str) -> None:
    encoder = adapted(fresh[name])
    weights = merge(encoder.state_dict(), CONFIG)
    updates = {key: weights[key] - value for key, value in fresh[name].state_dict().items()}
    layers = {key: module for key, module in encoder.named_modules() if hasattr(module, "get_delta_weight")}
    assert sum(bool(update.any()) for update in updates.values()) == len(layers)
    for key, module in layers.items():
        plain = key.replace(".base_layer", "")
        update = updates.get(f"{plain}.in_proj_weight", updates.get(f"{plain}.weight"))
        torch.testing.assert_close(update, module.get_delta_weight("default"), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TOWERS)
def test_plain_weights_load_into_a_tower_with_updates(fresh: dict[str, Encoder], name: str) -> None:
    other = {key: value + 0.01 for key, value in fresh[name].state_dict().items()}
    encoder, plain = adapted(fresh[name], drawn=False), copy.deepcopy(fresh[name]).eval()
    encoder.load_state_dict(other)
    plain.load_state_dict(other)
    assert_same_vectors(encoder, plain)


def test_frozen_weights_of_fused_attention_never_change(fresh: dict[str, Encoder]) -> None:
    encoder = adapted(fresh["open-clip-image"])
    before = {id(parameter): parameter.detach().clone() for parameter in encoder.parameters()}
    for _ in range(3):
        gradients(encoder)
    after = {id(parameter): parameter for parameter in encoder.parameters()}
    assert before.keys() == after.keys()
    assert all(after[key].equal(value) for key, value in before.items())


def test_updates_of_a_tower_from_transformers(tmp_path: Path) -> None:
    folder = write("bert", tmp_path / "bert")
    plain = build_encoder("text", TowerConfig(encoder=f"hf:{folder}")).eval()
    assert_same_vectors(adapted(plain, drawn=False), plain)
    encoder, before = adapted(plain), plain(*rows(plain))
    plain.load_state_dict(merge(encoder.state_dict(), CONFIG))
    assert (plain(*rows(plain)) - before).abs().max() > 1e-3
    assert_same_vectors(encoder, plain)
    with pytest.raises(UserError, match="blocks have no linear layers to update"):
        adapted(build_encoder("text", TowerConfig(encoder=f"hf:{write('gpt2', tmp_path / 'gpt2')}")))


def test_targets_match_the_ends_of_names(fresh: dict[str, Encoder]) -> None:
    encoder = adapted(fresh["vit"], LoraConfig(targets=("attn.qkv",)))
    updated = [name for name, module in encoder.named_modules() if hasattr(module, "get_delta_weight")]
    assert updated == [f"model.blocks.{block}.attn.qkv" for block in range(3)]
    with pytest.raises(UserError, match=r"model.image.lora.targets: no layer of the blocks ends in `qvk`; .*`qkv`"):
        adapted(fresh["vit"], LoraConfig(targets=("qvk",)))


def test_unsupported_dropout_and_uncalled_layers_are_rejected(fresh: dict[str, Encoder]) -> None:
    with pytest.raises(UserError, match=r"model.text.lora.dropout: the fused attention `\S+attn` does not support it"):
        adapted(fresh["open-clip-text"], LoraConfig(dropout=0.1))

    class Idle(nn.Module):
        """Reads the weight of a layer without calling the layer."""

        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.layer.weight, self.layer.bias)

    encoder = copy.deepcopy(fresh["small-image"])
    block = encoder.trunk.layers[0]  # type: ignore[union-attr, index]
    block.out = Idle(block.out)  # type: ignore[union-attr, arg-type]
    with pytest.raises(UserError, match=r"never calls its layer `trunk.layers.0.out.layer`"):
        add_lora(encoder, CONFIG)


def test_locking_and_updates_cannot_be_combined() -> None:
    with pytest.raises(ValueError, match="`unlocked` cannot be combined with `lora`"):
        TowerConfig(encoder="small:image", unlocked=1, lora=CONFIG)
