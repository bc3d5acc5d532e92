"""`A+B` is one model with the vectors of both: its cosines are the means of theirs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tercet
from tercet.command import main
from tercet.errors import UserError
from tercet.models.concatenated import concatenated
from tercet.models.config import ModelConfig
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tercet.training.pretrained import models_of
from tests.tercet.api.boats import SPACE

MODELS = "exported+other"


def export(folder: Path, seed: int, **changes: Any) -> None:
    config = SpaceConfig.model_validate({"model": {**SPACE["model"], **changes}, "pairs": {"image-text": 1.0}})
    export_folder(build_model(config.model, config.terms, seed), config, folder)


@pytest.fixture(scope="module", autouse=True)
def others(home: Path) -> None:
    """Of another width and without sounds, of another picture size, and with a + in its name."""
    export(home / "other", 5, dim=24, audio=None)
    export(home / "larger", 6, image={**SPACE["model"]["image"], "size": 48})
    export(home / "a+b", 7)


def test_cosines_are_the_means_of_those_of_the_models() -> None:
    things: dict[str, Any] = {"text": ["a boat", "two red cars"], "image": ["boat.jpg", "photos/3.png"]}
    singles = [tercet.load(name).embed(**things) for name in MODELS.split("+")]
    together = tercet.load(MODELS)
    found = together.embed(**things)
    assert repr(together) == "Model(exported+other: image, text → 40 dimensions)"
    expected = torch.stack([one.image @ one.text.T for one in singles]).mean(dim=0)
    torch.testing.assert_close(found.image @ found.text.T, expected)
    torch.testing.assert_close(found.text.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(found.image[:, :16] * 2**0.5, singles[0].image)
    torch.testing.assert_close(found.image[:, 16:] * 2**0.5, singles[1].image)


def test_three_models_count_alike() -> None:
    names = ("exported", "other", "exported+other+exported")
    found = [tercet.load(name).embed(image="boat.jpg", text="a boat") for name in names]
    one, other, together = (float(z.image @ z.text.T) for z in found)
    assert together == pytest.approx((2 * one + other) / 3, abs=1e-6)


def test_every_command_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    vectors = [tercet.embed(name, "val.csv").table().vectors for name in MODELS.split("+")]
    cosine = torch.stack([one["image"] @ one["text"].T for one in vectors]).mean(dim=0)
    hits = (cosine.argmax(dim=1) == torch.arange(len(cosine))).double().mean()
    assert main(["eval", MODELS, "--data", "val.csv", "--json"]) == 0
    (task,) = json.loads(capsys.readouterr().out)
    assert task["model"] == MODELS
    assert tercet.evaluate(MODELS, data="val.csv")["image→text R@1"].value == pytest.approx(float(hits))
    assert main(["compare", "exported", MODELS, "--data", "val.csv", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["against"]) == [MODELS]
    assert main(["embed", MODELS, "--data", "val.csv", "--out", "joined", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["modalities"]["image"]["dim"] == 40
    assert main(["search", MODELS, "photos/50.png", "--data", "val.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["path"].endswith("50.png")


def test_a_path_with_a_plus_is_one_model() -> None:
    assert models_of("a+b") == ["a+b"]
    assert models_of("hf:a+b") == ["hf:a+b"]
    assert models_of("open_clip:ViT-B-32/a+b") == ["open_clip:ViT-B-32/a+b"]
    assert models_of("exported+other") == ["exported", "other"]
    assert tercet.load("a+b").dim == 16


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("exported+gone", "there is no model `gone`: a model is a run"),
        ("exported+", r"`exported\+`: a model is missing beside a \+"),
        ("exported+larger", "larger takes pictures of 48 × 48 pixels, not the 32 × 32 of exported; only models"),
    ],
)
def test_models_that_cannot_be_concatenated_are_rejected(model: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tercet.load(model)


def test_models_without_a_common_modality_are_rejected() -> None:
    towers = [ModelConfig.model_validate({name: SPACE["model"][name]}) for name in ("image", "text")]
    one, other = (build_model(config, (), seed=0) for config in towers)
    with pytest.raises(UserError, match="one, other: these models have no modality in common, so they cannot be"):
        concatenated([("one", one), ("other", other)])


def test_a_run_begins_with_one_model_only() -> None:
    with pytest.raises(UserError, match=r"`exported\+other` names 2 models; name one"):
        tercet.train("image_text", data="photos.csv", init=MODELS, out="run")


def test_data_of_the_own_run_are_those_of_the_first_model() -> None:
    with pytest.raises(UserError, match=r"exported\+other has no validation data of its own"):
        tercet.evaluate(MODELS)
