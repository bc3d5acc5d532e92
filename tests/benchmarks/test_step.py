"""Both sides of the benchmark take the same steps: from equal weights, tercet's and open_clip_train's stay equal."""

import pytest
import torch

from tercet.benchmarks.step import run
from tercet.benchmarks.step.case import StepCase
from tercet.benchmarks.step.ours import OurSide
from tercet.benchmarks.step.peer import PeerSide
from tercet.errors import UserError
from tercet.models.interop.open_clip import our_name

VISION = {"image_size": 32, "patch_size": 16, "width": 48, "layers": 2, "head_width": 16}
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TEMPERATURE = "head.temperatures.image-text.log_scale"


@pytest.mark.parametrize("tokens", [12, 7])
def test_steps_are_those_of_open_clip_train(tokens: int) -> None:
    options = {"vision_cfg": VISION, "text_cfg": TEXT}
    case = StepCase("ViT-B-32", 8, "fp32", torch.device("cpu"), tokens, 32, options)
    ours, peer = OurSide(case), PeerSide(case)
    theirs = {our_name(name) or TEMPERATURE: weight for name, weight in peer.model.named_parameters()}
    mine = dict(ours.model.named_parameters())
    assert mine.keys() == theirs.keys()
    with torch.no_grad():
        for name, weight in mine.items():
            weight.copy_(theirs[name])
    before = {name: weight.detach().clone() for name, weight in mine.items()}
    for side in (ours, peer):
        side(3)
    for name, weight in mine.items():
        change = (weight - before[name]).norm()
        assert (weight - theirs[name]).norm() < 1e-3 * change, name


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="--tokens from 2 to 77"):
        run(["--tokens", "78"])
