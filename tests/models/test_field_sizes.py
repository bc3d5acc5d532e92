"""Pictures of another size than the tower's own, for fields that ask for them."""

from dataclasses import replace

import pytest
import torch

from tercet.data_pipelines.sample import ImageIntake
from tercet.errors import UserError
from tercet.models.config import ModelConfig, TermConfig
from tercet.models.multimodal import Multimodal, build_model

VIT = "timm:vit_tiny_patch16_224"


def model(**options: object) -> Multimodal:
    image = {"encoder": VIT, "size": 64, "options": {"depth": 1, **options}}
    towers = {"dim": 16, "image": image, "text": {"encoder": "small:text"}}
    return build_model(ModelConfig.model_validate(towers), [TermConfig(between=("image", "text"))], seed=0)


def sized(model: Multimodal, side: int) -> dict[str, ImageIntake]:
    intake = model.tower("image").intake
    assert isinstance(intake, ImageIntake)
    return {"image.local": replace(intake, size=(side, side))}


def test_a_tower_of_one_size_refuses_other_sizes_in_one_line() -> None:
    fixed = model()
    fixed.check_sizes(sized(fixed, 64))
    with pytest.raises(
        UserError, match=r"fields\.image\.local\.size: the image tower does not accept 32 pixels \(.*\);"
    ):
        fixed.check_sizes(sized(fixed, 32))


def test_a_tower_of_any_size_takes_all_sizes() -> None:
    free = model(dynamic_img_size=True)
    free.check_sizes(sized(free, 32))
    vectors = free.tower("image")(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert vectors.shape == (2, free.tower("image").width)
