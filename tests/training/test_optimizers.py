"""Which parameters decay, and at which rate each learns."""

from pathlib import Path

import pytest
import torch

from tercet.errors import UserError
from tercet.models.multimodal import build_model
from tercet.training.config import RunConfig
from tercet.training.engines.optimizers import build_optimizer, parameter_groups
from tests.training.tiny import MODEL, recipe


def config(tmp_path: Path, **changes: object) -> RunConfig:
    return RunConfig.model_validate(recipe(tmp_path, tmp_path, **changes))


def test_every_trained_parameter_is_in_one_group_and_small_ones_do_not_decay(tmp_path: Path) -> None:
    towers = MODEL | {"audio": {**MODEL["audio"], "lr_scale": 0.1}, "image": {**MODEL["image"], "unlocked": 0}}
    optimizer = {"lr": 1e-3, "scale_lr": 5, "weight_decay": 0.3}
    run = config(tmp_path, model=towers, objective="sigmoid", optimizer=optimizer)
    model = build_model(run.model, run.terms, 0)
    group_of = {id(p): group for group in parameter_groups(model, run) for p in group["params"]}
    assert sum(len(group["params"]) for group in parameter_groups(model, run)) == len(group_of)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (id(parameter) in group_of), name
        if name.startswith("towers.image"):
            assert id(parameter) not in group_of
            continue
        group = group_of[id(parameter)]
        temperature = name.startswith("head.temperatures")
        assert group["weight_decay"] == (0.3 if parameter.ndim >= 2 and not temperature else 0.0), name
        assert group["lr_scale"] == (5 if temperature else 0.1 if name.startswith("towers.audio") else 1.0), name


def test_an_adamw_step_equals_the_formula(tmp_path: Path) -> None:
    run = config(tmp_path, optimizer={"lr": 1e-2, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.1})
    model = build_model(run.model, run.terms, 0)
    optimizer = build_optimizer(model, run)
    weight = model.head.projections["text"].weight
    before = weight.detach().double().clone()
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    g = weight.grad.double()
    step = g / (g.abs() + 1e-6)  # both moments, corrected for their bias, are those of one gradient
    assert torch.allclose(weight.double(), before * (1 - 1e-2 * 0.1) - 1e-2 * step, atol=1e-6)


def test_an_unknown_optimizer_is_an_error_of_one_line(tmp_path: Path) -> None:
    run = config(tmp_path, optimizer={"name": "adam"})
    with pytest.raises(UserError, match=r"unknown optimizer `adam`; did you mean `adamw`\?"):
        build_optimizer(build_model(run.model, run.terms, 0), run)


@pytest.mark.parametrize("unlocked", [None, 0, 2])
def test_layer_decay_lowers_the_learning_rate_towards_the_input(tmp_path: Path, unlocked: int | None) -> None:
    """Three blocks: the last at the tower's rate 0.5, then 0.5 · 0.8, 0.5 · 0.8², and the stem at 0.5 · 0.8³."""
    tower = {"encoder": "small:text", "options": {"width": 32, "heads": 2, "depth": 3}}
    tower |= {"layer_decay": 0.8, "lr_scale": 0.5} | ({} if unlocked is None else {"unlocked": unlocked})
    run = config(tmp_path, model=MODEL | {"text": tower}, optimizer={"weight_decay": 0.3})
    model = build_model(run.model, run.terms, 0)
    group_of = {id(p): group for group in parameter_groups(model, run) for p in group["params"]}  # type: ignore[attr-defined]
    shares = {"trunk.layers.2.": 1.0, "trunk.norm.": 1.0, "trunk.layers.1.": 0.8, "trunk.layers.0.": 0.64}
    for name, parameter in model.towers["text"].named_parameters():
        assert (id(parameter) in group_of) == parameter.requires_grad, name
        if parameter.requires_grad:
            share = next((value for start, value in shares.items() if name.startswith(start)), 0.512)
            assert group_of[id(parameter)]["lr_scale"] == pytest.approx(0.5 * share), name
            assert group_of[id(parameter)]["weight_decay"] == (0.3 if parameter.ndim >= 2 else 0.0), name
    for name, parameter in model.named_parameters():
        if not name.startswith(("towers.text", "head.temperatures")):
            assert group_of[id(parameter)]["lr_scale"] == 1.0, name
