"""`dims` cuts the vectors of a model to their first dimensions, wherever a model is used."""

import json

import pytest
import torch
from torch.nn.functional import normalize

import tercet
from tercet.api.model import Model
from tercet.command import main
from tercet.errors import UserError
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tests.tercet.api.boats import SPACE


def test_vectors_are_the_normalised_prefixes_of_the_whole_ones(model: Model) -> None:
    cut = tercet.load("exported", dims=5)
    whole, found = (one.embed(text=["a boat", "a red car"], image="boat.jpg") for one in (model, cut))
    for modality in ("text", "image"):
        torch.testing.assert_close(found[modality], normalize(whole[modality][:, :5], dim=1))
    assert repr(cut) == "Model(exported: image, audio, text → 5 dimensions)"
    assert model.dim == 16
    stored, cut_store = (tercet.embed("exported", "val.csv", dims=dims).table().vectors["image"] for dims in (None, 5))
    torch.testing.assert_close(cut_store, normalize(stored[:, :5], dim=1))


def test_stores_of_other_dimensions_are_not_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    whole, cut = (tercet.embed("exported", "val.csv", dims=dims) for dims in (None, 4))
    assert (whole.folder != cut.folder, cut.facts["dims"], "dims" in whole.facts) == (True, 4, False)
    assert cut.facts["modalities"]["image"]["dim"] == 4
    command = ["embed", "exported", "--data", "val.csv", "--out", "cut"]
    assert main([*command, "--dims", "4"]) == 0
    assert main([*command, "--dims", "3"]) == 2
    assert "cut holds the embeddings of another request (weights, dims changed)" in capsys.readouterr().err


def test_evaluation_equals_that_of_the_prefixes_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = tercet.evaluate("exported", data="val.csv", dims=3)
    table = tercet.embed("exported", "val.csv").table()
    image, text = (normalize(table.vectors[name][:, :3], dim=1) for name in ("image", "text"))
    nearest = (image @ text.T).argmax(dim=1)
    expected = (table.items["text"][nearest] == table.items["image"]).double().mean()
    assert found["image→text R@1"].value == pytest.approx(float(expected))
    assert "3 dimensions" in repr(found)
    assert main(["eval", "exported", "--data", "val.csv", "--dims", "3", "--json"]) == 0
    (task,) = json.loads(capsys.readouterr().out)
    assert task["model"] == "exported (3 dimensions)"
    assert task["details"]["image→text R@1"]["dimensions"] == 3


def test_search_compares_prefixes() -> None:
    whole = tercet.embed("exported", "photos.csv").table().vectors["image"]
    hits = tercet.index("exported", "photos.csv", dims=2).search(image="photos/7.png", k=48)
    cosines = normalize(whole[:, :2], dim=1) @ normalize(whole[7, :2], dim=0)
    torch.testing.assert_close(torch.tensor([hit.score for hit in hits]), cosines.sort(descending=True).values)


def test_models_of_several_lengths_are_compared_under_their_own_names() -> None:
    compared = tercet.compare("exported", *(tercet.load("exported", dims=dims) for dims in (2, 16)), data="val.csv")
    against = compared.to_json()["against"]
    assert list(against) == ["exported (2 dimensions)", "exported (16 dimensions)"]
    assert {one["difference"] for one in against["exported (16 dimensions)"]} == {0.0}


@pytest.mark.parametrize("dims", [0, 17])
def test_dims_beyond_the_joint_space_are_rejected(dims: int) -> None:
    with pytest.raises(UserError, match=f"dims is {dims}, but exported has 16 dimensions; give 1 to 16"):
        tercet.evaluate("exported", data="val.csv", dims=dims)


def test_a_loaded_model_keeps_its_dimensions(model: Model) -> None:
    with pytest.raises(UserError, match=r"dims is 4, but exported is loaded with 16; pass dims to `tercet.load`"):
        tercet.embed(model, "val.csv", dims=4)


def test_training_refuses_prefixes_longer_than_the_joint_space() -> None:
    term = {"between": ["image", "text"], "objective": {"name": "matryoshka", "dims": [8, 32]}}
    config = SpaceConfig.model_validate({"model": SPACE["model"], "terms": [term]})
    with pytest.raises(UserError, match=r"terms\.image-text\.objective\.dims: 32 is more than the 16 dimensions"):
        build_model(config.model, config.terms, seed=0)
