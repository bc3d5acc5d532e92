"""Patch dropout (FLIP): training sees a random part of the patches of each picture, and evaluation all of them."""

import pytest
import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.models.config import ModelConfig, TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.small import some_of
from tercet.models.multimodal import build_model, check_trainable
from tercet.models.term_config import TermConfig
from tercet.training.loop.step import seed_dropout
from tests.models.test_field_sizes import TOWERS, pictures

PREFIX = {"small": 0, "open_clip": 1, "timm": 1}  # tokens before the patches
BLOCKS = {"small": "trunk.layers.0", "open_clip": "model.transformer.resblocks.0", "timm": "model.blocks.0"}


@pytest.mark.parametrize("kind", TOWERS)
def test_blocks_see_a_part_of_the_patches_in_training_only(kind: str) -> None:
    torch.manual_seed(0)
    plain = build_encoder("image", TowerConfig.model_validate(TOWERS[kind])).eval()
    torch.manual_seed(0)
    tower = build_encoder("image", TowerConfig.model_validate(TOWERS[kind] | {"patch_dropout": 0.75}))
    values, seen = pictures(TOWERS[kind]["size"]), list[int]()
    block = tower.get_submodule(BLOCKS[kind])
    block.register_forward_pre_hook(lambda _, given: seen.append(given[0][..., 0].numel() // len(values)))
    torch.testing.assert_close(tower.eval()(values), plain(values), atol=0, rtol=0)
    found = []
    for step in (3, 3, 4):
        seed_dropout(0, step, 0, 0)
        found.append(tower.train()(values))
    assert seen == [16 + PREFIX[kind], *[4 + PREFIX[kind]] * 3]
    assert torch.equal(found[0], found[1]), "the step decides the patches"
    assert not torch.equal(found[0], found[2])
    assert list(tower.state_dict()) == list(plain.state_dict())


def test_each_row_keeps_different_cells_in_their_order_and_all_equally_often() -> None:
    torch.manual_seed(0)
    place_nLD = torch.arange(10.0)[None, :, None].expand(4000, -1, 2)
    kept = some_of(place_nLD, 0.7)
    assert kept.shape == (4000, 3, 2)
    assert torch.equal(kept[..., 0], kept[..., 1]), "a cell stays whole"
    rows: Tensor = kept[..., 0]
    assert bool((rows.diff(dim=1) > 0).all()), "no cell comes twice"
    often = torch.bincount(rows.flatten().long(), minlength=10) / 4000
    assert bool(((often - 0.3).abs() < 5 * (0.3 * 0.7 / 4000) ** 0.5).all())
    assert some_of(place_nLD, 0.0) is place_nLD
    assert some_of(place_nLD, 0.99).shape[1] == 1


def test_what_cannot_leave_patches_out_is_refused() -> None:
    towers = {"image": {"encoder": "small:image", "patch_dropout": 0.5}, "text": {"encoder": "small:text"}}
    config, term = ModelConfig.model_validate(towers), {"between": ("image", "text"), "objective": {"name": "sequence"}}
    with pytest.raises(UserError, match=r"model.image.patch_dropout: a term compares the tokens of pictures"):
        check_trainable(build_model(config, [TermConfig.model_validate(term)], seed=0), config)
    resnet = {"encoder": "open_clip:RN50", "options": {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 8}}}
    with pytest.raises(UserError, match=r"model.image.patch_dropout: open_clip's ResNets have no patches"):
        build_encoder("image", TowerConfig.model_validate(resnet | {"patch_dropout": 0.5}))
