"""Adapters: the formula of the paper, no initial change of direction, and loading of weights without adapters."""

import torch
from torch.nn.functional import normalize

from tercet.models.config import AdapterConfig, ModelConfig
from tercet.models.multimodal import build_model
from tercet.models.term_config import TermConfig
from tercet.models.tuning.adapters import Adapter

TOWER = {"width": 32, "heads": 2}
MODEL = {
    "dim": 16,
    "image": {"encoder": "small:image", "size": 32, "options": TOWER},
    "text": {"encoder": "small:text", "options": TOWER},
}
TERMS = [TermConfig(between=("image", "text"))]


def test_output_equals_the_formula() -> None:
    torch.manual_seed(0)
    adapter = Adapter(8, AdapterConfig(reduction=4, ratio=0.3))
    features = torch.randn(5, 8)
    torch.testing.assert_close(normalize(adapter(features)), normalize(features))
    torch.nn.init.normal_(adapter.up.weight)
    hidden = (features @ adapter.down.weight.T).clamp(min=0)
    assert hidden.shape == (5, 2)
    torch.testing.assert_close(adapter(features), 0.3 * hidden @ adapter.up.weight.T + 0.7 * features)


@torch.no_grad()
def test_initial_adapters_do_not_change_the_model() -> None:
    plain = build_model(ModelConfig.model_validate(MODEL), TERMS, seed=1)
    towers = {modality: {**MODEL[modality], "adapter": {}, "unlocked": 0} for modality in ("image", "text")}  # type: ignore[dict-item]
    adapted = build_model(ModelConfig.model_validate(MODEL | towers), TERMS, seed=1)
    own = adapted.state_dict()
    assert all(value.equal(own[name]) for name, value in plain.state_dict().items())
    assert own.keys() - plain.state_dict().keys() == {
        f"head.adapters.{modality}.{layer}.weight" for modality in ("image", "text") for layer in ("down", "up")
    }
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    vectors = [model.head("image", model.tower("image")(pixels)) for model in (plain, adapted)]
    torch.testing.assert_close(*vectors, atol=1e-6, rtol=0)


def test_loading_weights_without_adapters_keeps_the_adapters() -> None:
    plain = build_model(ModelConfig.model_validate(MODEL), TERMS, seed=1)
    tower = {**MODEL["image"], "adapter": {"reduction": 2}}  # type: ignore[dict-item]
    adapted = build_model(ModelConfig.model_validate(MODEL | {"image": tower}), TERMS, seed=2)
    torch.nn.init.normal_(adapted.head.adapters["image"].up.weight)  # type: ignore[union-attr, arg-type]
    before = {name: value.clone() for name, value in adapted.state_dict().items()}
    adapted.load_state_dict(plain.state_dict())
    for name, value in adapted.state_dict().items():
        assert value.equal(before[name] if "adapters" in name else plain.state_dict()[name]), name
