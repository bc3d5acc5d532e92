"""Dropout of a text tower: what each block reads in training, and nothing at evaluation."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tercet.errors import UserError
from tercet.models.config import ModelConfig, TowerConfig
from tercet.models.encoders.encoder import build_encoder

SHARE, LENGTH, END = 0.25, 12, 49407
TEXT = {"context_length": LENGTH, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TOWERS: dict[str, dict[str, Any]] = {
    "small": {"encoder": "small:text", "options": {"width": 32, "heads": 2, "depth": 2}},
    "open_clip": {"encoder": "open_clip:ViT-B-32", "options": {"text_cfg": TEXT}},
}


def read_by_blocks(tower: nn.Module, blocks: nn.ModuleList, tokens: Tensor) -> list[Tensor]:
    """The inputs of the blocks, one after the other."""
    seen: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0].detach())) for block in blocks]
    tower(tokens)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", TOWERS)
def test_training_drops_a_share_of_what_blocks_read_and_evaluation_none(name: str) -> None:
    torch.manual_seed(0)
    config = TowerConfig.model_validate(TOWERS[name] | {"dropout": SHARE})
    tower, plain = build_encoder("text", config), build_encoder("text", config.model_copy(update={"dropout": 0.0}))
    plain.load_state_dict(tower.state_dict())
    blocks: Any = tower.trunk.layers if name == "small" else tower.model.transformer.resblocks  # type: ignore[union-attr]
    tokens = torch.randint(1, END, (64, LENGTH), generator=torch.Generator().manual_seed(0))
    tokens[:, -1] = END
    assert torch.equal(tower.eval()(tokens), plain.eval()(tokens))
    (whole, _), dropped = read_by_blocks(tower, blocks, tokens), read_by_blocks(tower.train(), blocks, tokens)
    kept = dropped[0] != 0
    torch.testing.assert_close(dropped[0], torch.where(kept, whole / (1 - SHARE), 0.0))
    assert [float((one == 0).float().mean()) for one in dropped] == pytest.approx([SHARE] * 2, abs=0.02)


def test_other_towers_refuse_it() -> None:
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    with pytest.raises(UserError, match=r"dropout: this tower takes its own in `options` only"):
        build_encoder("image", TowerConfig(encoder="open_clip:ViT-B-32", dropout=0.1, options={"vision_cfg": vision}))
    with pytest.raises(ValueError, match=r"image.dropout` applies to the text tower only"):
        ModelConfig.model_validate({"image": {"encoder": "small:image", "dropout": 0.1}})
