"""Noise as extra negatives: where it lies, against autograd, and the same on any number of processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from tercet.testing import on_ranks
from tercet.training.memory.noise import TEMPERATURE, Noise, ascended
from tests.training.tiny import MODEL, losses, recipe, run, saved


def vectors(rows: int, seed: int, dim: int = 8) -> torch.Tensor:
    drawn = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(drawn, dim=1)


def uniformity(noise: torch.Tensor, anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    """U of the module's docstring, one anchor at a time, with cosines."""
    parts = []
    for anchor, positive in zip(anchors, positives, strict=True):
        to_noise = torch.stack([torch.exp(anchor @ one / one.norm() / TEMPERATURE) for one in noise])
        parts.append(-torch.log(torch.exp(anchor @ positive / TEMPERATURE) / to_noise.sum()))
    return torch.stack(parts).mean()


def test_noise_moves_along_the_gradient_that_autograd_finds() -> None:
    noise, anchors, positives = vectors(5, 0), vectors(7, 1), vectors(7, 2)
    leaf = noise.clone().requires_grad_()
    uniformity(leaf, anchors, positives).backward()
    expected = normalize(noise + 0.1 * normalize(leaf.grad, dim=1), dim=1)
    torch.testing.assert_close(ascended(noise, anchors, 0.1), expected, rtol=0, atol=1e-10)
    for _ in range(5):
        before, noise = noise, ascended(noise, anchors, 0.05)
        assert uniformity(noise, anchors, positives) > uniformity(before, anchors, positives)


def test_noise_without_ascent_is_uniform_on_the_sphere_and_new_in_each_step() -> None:
    memory = Noise(["text", "image"], 4000, 0, 0.1, 3, 7, torch.device("cpu"))
    first = {field: rows.z_Nd.clone() for field, rows in memory.frozen(None).items()}
    for field, noise in first.items():
        assert noise.norm(dim=1) == pytest.approx(1), field
        assert noise.mean(dim=0).abs().max() < 0.05
        share = (noise[:, 2].abs() < 0.5).float().mean()
        assert share == pytest.approx(0.5, abs=0.04), "a band of the sphere has the area of its height (Archimedes)"
    assert not first["text"].equal(first["image"])
    again = Noise(["text", "image"], 4000, 0, 0.1, 3, 7, torch.device("cpu"))
    assert again.frozen(None)["text"].z_Nd.equal(first["text"])
    again.steps = 1
    assert not again._drawn("text").equal(first["text"])


def values(world_folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    model = {name: MODEL[name] for name in ("dim", "image", "text")}
    memories = {"noise": {"fields": ["text", "image"], "size": 24, "rate": 0.3}}
    term = {"between": ["image", "text"], "against": {"text": ["noise.text"], "image": ["noise.image"]}}
    return recipe(world_folder, out, model=model, pairs={}, terms=[term], memories=memories, steps=4) | changes


def interrupted_and_resumed(world: Any, values: dict[str, Any]) -> None:
    run(world, values, stop=1)
    world.barrier()
    run(world, values)


def test_a_run_with_noise_resumes_and_is_the_same_on_two_processes(world_folder: Path, tmp_path: Path) -> None:
    on_ranks(run, 1, values(world_folder, tmp_path / "one"))
    on_ranks(run, 2, values(world_folder, tmp_path / "two"))
    on_ranks(interrupted_and_resumed, 1, values(world_folder, tmp_path / "again", checkpoint={"every": 1}))
    on_ranks(run, 1, values(world_folder, tmp_path / "without", terms=[{"between": ["image", "text"]}]))
    one, again = saved(tmp_path / "one"), saved(tmp_path / "again")
    assert all(again[name].equal(value) for name, value in one.items())
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert losses(tmp_path / "without")[0] < losses(tmp_path / "one")[0]
    noise = one["memory/noise/text/vectors"]
    assert noise.shape == (24, 16)
    torch.testing.assert_close(noise, saved(tmp_path / "two")["memory/noise/text/vectors"], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("options", "message"), [
    ({"fields": ["audio"]}, r"`memories\.noise\.fields` `audio` is not trained"),
    ({"fields": ["text"], "rate": 0}, r"rate"),
    ({}, r"`fields` is missing"),
])  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any], message: str, world_folder: Path, tmp_path: Path) -> None:
    from tercet.training.config import RunConfig

    wrong = values(world_folder, tmp_path, memories={"noise": options}, terms=[{"between": ["image", "text"]}])
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate(wrong)
