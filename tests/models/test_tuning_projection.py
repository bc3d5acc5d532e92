"""A projection by an MLP: its formula, what trains, and models that start from weights without one."""

import pytest
import torch
from torch.nn.functional import gelu, normalize

from tercet.errors import UserError
from tercet.models.config import ModelConfig
from tercet.models.interop.pretrained import load_towers
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.term_config import TermConfig

TOWER = {"width": 32, "heads": 2}
IMAGE = {"encoder": "small:image", "size": 32, "options": TOWER}
TEXT = {"encoder": "small:text", "options": TOWER}
MLP = {"hidden": 24, "layers": 3}


def model(seed: int, **image: object) -> Multimodal:
    config = ModelConfig.model_validate({"dim": 16, "image": IMAGE | image, "text": TEXT})
    return build_model(config, [TermConfig(between=("image", "text"))], seed)


@torch.no_grad()
def test_output_equals_the_formula() -> None:
    head, features = model(0, projection=MLP).head, torch.randn(5, 32)
    own = {name: value for name, value in head.state_dict().items() if name.startswith("projections.image.")}
    first, first_bias, second, second_bias, last = own.values()
    assert [tuple(one.shape) for one in (first, second, last)] == [(24, 32), (24, 24), (16, 24)]
    hidden = gelu(gelu(features @ first.T + first_bias) @ second.T + second_bias)
    torch.testing.assert_close(head("image", features), normalize(hidden @ last.T))


@torch.no_grad()
def test_outputs_get_length_1_and_in_training_the_noise_of_the_generator() -> None:
    head, features = model(0, projection=MLP | {"unit": True, "noise": 0.1}).head, 5 * torch.randn(40, 32)
    plain = model(0, projection=MLP).head

    def after(generator: int) -> torch.Tensor:
        torch.manual_seed(generator)
        found: torch.Tensor = head("image", features)
        return found

    unit = normalize(features)
    torch.testing.assert_close(head.eval()("image", features), plain("image", unit))
    head.train()
    found = after(1)
    assert torch.equal(found, after(1))
    assert not torch.equal(found, after(2))
    torch.manual_seed(1)
    torch.testing.assert_close(found, plain("image", normalize(unit + 0.1 * torch.randn(40, 32))))


def test_other_weights_do_not_depend_on_it() -> None:
    plain, other = model(0).state_dict(), model(0, projection=MLP).state_dict()
    changed = {name for name in plain.keys() | other.keys() if name not in plain or name not in other}
    assert {name.rpartition(".image.")[0] for name in changed} == {"head.projections"}
    assert all(plain[name].equal(other[name]) for name in plain.keys() - changed)


def test_weights_without_it_start_a_new_one_and_those_with_it_fill_it() -> None:
    plain, begun, full = model(1), model(2, projection=MLP), model(3, projection=MLP)
    before = {name: value.clone() for name, value in begun.state_dict().items()}
    load_towers(begun, plain.state_dict(), "plain")
    for name, value in begun.state_dict().items():
        expected = before if name.startswith("head.projections.image.") else plain.state_dict()
        assert value.equal(expected[name]), name
    load_towers(begun, full.state_dict(), "full")
    assert all(value.equal(full.state_dict()[name]) for name, value in begun.state_dict().items())
    with pytest.raises(UserError, match=r"it is of another architecture than model.image"):
        load_towers(plain, full.state_dict(), "full")
