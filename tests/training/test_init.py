"""Runs that begin from a model: what they take from it, and that nothing of it is needed once they have begun."""

import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from tercet.api.evaluate import evaluate
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.folder import export_folder
from tercet.models.interop.pretrained import Pretrained
from tercet.models.space import SpaceConfig
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.preflight.complete import complete, inherited
from tercet.training.pretrained import load_model, pretrained
from tests.training.tiny import MODEL, recipe, run, saved

CLIP = {
    "embed_dim": 24, "init_logit_bias": -10, "custom_text": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip
NAME = "init-clip"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as people have it, of a model with a scale and a bias of its own."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / f"{NAME}.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model(NAME)
    with torch.no_grad():
        model.logit_scale.fill_(3.3)
        model.logit_bias.fill_(-7.5)  # type: ignore[union-attr]
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def begun(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A recipe that says nothing of the model, its terms or its objective."""
    values = recipe(data, out, **changes)
    return {key: value for key, value in values.items() if key not in ("model", "pairs") or key in changes}


def run_from(world: World, jobs: list[tuple[dict[str, Any], int | None]], models: Path | None = None) -> None:
    """`models`: a folder of architectures that open_clip is to know."""
    if models:
        open_clip.add_model_config(models)
    for values, stop in jobs:
        config = inherited(RunConfig.model_validate(values))
        run(world, config.model_dump(mode="json"), stop)


def weights_of(out: Path) -> dict[str, Tensor]:
    return {name.partition("/")[2]: value for name, value in saved(out).items() if name.startswith("weight/")}


def test_no_steps_leave_the_weights_as_they_were(world_folder: Path, tmp_path: Path, weights: Path) -> None:
    init = f"open_clip:{NAME}/{weights}"
    jobs = [(begun(world_folder, tmp_path / str(zero), init=init, steps=0, zero=zero), None) for zero in (0, 3)]
    on_ranks(run_from, 2, jobs, weights.parent)
    expected = pretrained(init).weights()
    for zero in (0, 3):
        kept = weights_of(tmp_path / str(zero))
        assert kept.keys() == expected.keys()
        assert all(torch.equal(kept[name].view_as(value), value) for name, value in expected.items())


def test_a_resumed_run_does_not_need_the_weights_of_init(world_folder: Path, tmp_path: Path, weights: Path) -> None:
    own = tmp_path / "weights.pt"
    own.write_bytes(weights.read_bytes())
    whole, parts = (
        begun(world_folder, tmp_path / name, init=f"open_clip:{NAME}/{own}", steps=5, checkpoint={"every": 2}, seed=3)
        for name in ("whole", "parts")
    )
    on_ranks(run_from, 1, [(whole, None), (parts, 3)], weights.parent)
    own.unlink()
    on_ranks(run_from, 1, [(parts, None)], weights.parent)
    one, other = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not torch.equal(weights_of(tmp_path / "whole")["head.temperatures.image-text.bias"], torch.tensor([-7.5]))


@pytest.fixture(scope="module")
def trained(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three small towers with averaged weights, evaluated at its end."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    data = {"train": str(world_folder / "train"), "val": str(world_folder / "val"), "crop": None, "worker": "thread"}
    objective = {"name": "infonce", "scale": 20}
    values = recipe(world_folder, out, steps=4, data=data, objective=objective, eval={"report": False})
    on_ranks(run_from, 1, [(values, None)])
    return out


def test_init_from_a_run_or_its_export_takes_the_averaged_weights(
    world_folder: Path, tmp_path: Path, trained: Path
) -> None:
    config = inherited(RunConfig.model_validate(begun(world_folder, tmp_path, init=str(trained))))
    exported = export_folder(load_model(str(trained)), config, tmp_path / "exported")
    jobs = [
        (begun(world_folder, tmp_path / "run", init=str(trained), steps=0), None),
        (begun(world_folder, tmp_path / "export", init=str(exported), steps=0, ema=None), None),
    ]
    on_ranks(run_from, 1, jobs)
    tensors = saved(trained)
    averages = {name[11:]: value for name, value in tensors.items() if name.startswith("memory/ema/")}
    assert any(not torch.equal(tensors[f"weight/{name}"], value) for name, value in averages.items())
    for name in ("run", "export"):
        kept = weights_of(tmp_path / name)
        assert all(torch.equal(kept[name], value) for name, value in averages.items())
    assert config.model.towers == RunConfig.model_validate(recipe(world_folder, tmp_path)).model.towers
    assert config.pairs == {"image-text": 1.0, "audio-text": 1.0, "image-audio": 0.5}
    assert config.objective.name == "infonce"
    assert config.objective.model_extra == {"scale": 20}


def test_evaluating_a_model_works_without_deepspeed(
    world_folder: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    expected = [one["metrics"] for one in json.loads((trained / "eval.json").read_text())]
    assert [one["metrics"] for one in evaluate(str(trained)).to_json()] == expected
    config = inherited(RunConfig.model_validate(begun(world_folder, tmp_path, init=str(trained))))
    exported = export_folder(load_model(str(trained)), config, tmp_path / "exported")
    elsewhere = evaluate(str(exported), data=str(world_folder / "val")).to_json()
    assert [one["metrics"] for one in elsewhere] == expected
    with pytest.raises(UserError, match="has no validation data of its own; name data to evaluate it on: --data D"):
        evaluate(str(exported))


FOUND = Pretrained(
    "theirs",
    {
        "dim": 24,
        "image": {"encoder": "small:image", "size": 48, "options": {"width": 32}},
        "audio": MODEL["audio"],
        "text": {"encoder": "small:text"},
    },
    {"pairs": {"image-text": 1.0, "audio-text": 1.0}, "objective": {"name": "sigmoid"}},
    dict,
)  # fmt: skip


def completed(**values: Any) -> RunConfig:
    settings = {"name": "own", "init": "theirs", "data": {"train": "shards"}, **values}
    return complete(RunConfig.model_validate(settings), FOUND)


def test_settings_that_the_recipe_omits_come_from_init() -> None:
    whole = completed()
    assert whole.init == "theirs"
    assert set(whole.model.towers) == {"image", "audio", "text"}
    assert [term.name for term in whole.terms] == ["image-text", "audio-text"]
    assert {term.objective.name for term in whole.terms} == {"sigmoid"}


def test_settings_of_the_recipe_override_those_of_init() -> None:
    tower = {"unlocked": 0, "options": {"depth": 2}}
    own = completed(pairs={"image-text": 2.0}, objective={"name": "sigmoid", "scale": 5}, model={"image": tower})
    assert set(own.model.towers) == {"image", "text"}, "a tower that no term draws on stays away"
    assert own.model.towers["image"].model_dump(include={"encoder", "size", "unlocked", "options"}) == {
        "encoder": "small:image", "size": 48, "unlocked": 0, "options": {"width": 32, "depth": 2},
    }  # fmt: skip
    assert own.terms[0].objective.model_extra == {"scale": 5}
    assert completed(pairs={"image-text": 1.0}, objective="infonce").terms[0].objective.name == "infonce"
    written = completed(terms=[{"between": ["text", "audio"], "objective": "infonce"}])
    assert [(term.name, term.objective.name) for term in written.terms] == [("text-audio", "infonce")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"image": {"encoder": "timm:vit"}}}, "encoder is `timm:vit`, but init theirs has `small:image`"),
        ({"pairs": {"image-depth": 1.0}}, "unknown modality `depth`"),
    ],
)
def test_settings_that_do_not_fit_init_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        completed(**settings)


def test_a_tower_missing_from_both_the_recipe_and_init_is_named() -> None:
    decayed = {"image": {"layer_decay": 0.75}}
    for model, message in [
        ({}, r"init theirs holds weights without their architecture. Name .*: init=open_clip:NAME/theirs"),
        ({"audio": MODEL["audio"]}, "init theirs has no image tower, only audio; give model.image an encoder"),
    ]:
        settings = RunConfig.model_validate({"name": "own", "init": "theirs", "data": {"train": "s"}, "model": decayed})
        with pytest.raises(UserError, match=message):
            complete(settings, Pretrained("theirs", model, FOUND.terms, dict))


def test_weights_trained_with_another_activation_are_refused() -> None:
    plain = {"image": {"encoder": "open_clip:ViT-B-32"}}
    settings = {"name": "own", "init": "open_clip:ViT-B-32/openai", "data": {"train": "shards"}, "model": plain}
    with pytest.raises(UserError, match=r"is `open_clip:ViT-B-32`, but init .* has `open_clip:ViT-B-32-quickgelu`"):
        inherited(RunConfig.model_validate(settings))


def test_without_init_a_recipe_must_be_complete() -> None:
    for settings, message in [
        ({"pairs": {"image-text": 1.0}}, "needs a tower that the model lacks"),
        ({"model": {"image": {"encoder": "small:image"}}}, "pairs. is missing"),
        (
            {"pairs": {"image-text": 1.0}, "model": {"image": {"size": 32}, "text": {"encoder": "small:text"}}},
            r"model.image.encoder. is missing",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            SpaceConfig.model_validate(settings)
