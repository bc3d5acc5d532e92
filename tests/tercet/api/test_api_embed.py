"""`Model.embed` and `tercet.embed`: every kind of input, and equal vectors for equal samples."""

import copy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import tercet
from tercet.api.model import Model
from tercet.command import main
from tercet.errors import UserError
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tests.tercet.api.boats import SPACE, captioned, pixels


def test_samples_embedded_by_hand_equal_those_of_the_dataset(model: Model) -> None:
    table = tercet.embed(model, "photos.csv").table()
    given = [Path(f"photos/{number}.png") for number in range(48)]
    z = model.embed(image=given, text=[captioned(number) for number in range(48)], batch_size=20)
    assert torch.allclose(z.image, table.vectors["image"], atol=1e-6)
    assert torch.allclose(z.text, table.vectors["text"], atol=1e-6)
    assert copy.copy(z).text is z["text"]
    with pytest.raises(AttributeError, match=r"there are no embeddings of `imag`; did you mean `image`\?"):
        z.imag  # noqa: B018  # what a misspelt name raises


def test_a_replaced_picture_is_embedded_again(model: Model, tmp_path: Path) -> None:
    for number in (0, 1):
        Image.fromarray(pixels(number)).save(tmp_path / f"{number}.png")
    before = tercet.embed(model, tmp_path)
    assert tercet.embed(model, tmp_path).folder == before.folder
    Image.fromarray(pixels(5)).save(tmp_path / "0.png")
    after = tercet.embed(model, tmp_path).table().vectors["image"]
    assert torch.allclose(after, model.embed(image=[pixels(5), pixels(1)]).image, atol=1e-6)
    assert not torch.allclose(after[0], before.table().vectors["image"][0], atol=1e-3)


def test_a_picture_has_the_same_vector_as_path_bytes_image_or_array(model: Model) -> None:
    path = Path("photos/7.png")
    things = [path, str(path), path.read_bytes(), Image.open(path), Image.open(path).convert("RGBA"), pixels(7)]
    rows = model.embed(image=[*things, torch.from_numpy(pixels(7))]).image
    assert torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-6)
    assert model.embed(image=path).image.equal(model.embed(image=[path]).image)
    assert model.embed(image=pixels(7)).image.equal(model.embed(image=[pixels(7)]).image)


def test_a_sound_has_the_same_vector_as_path_bytes_or_array(model: Model) -> None:
    wave, rate = soundfile.read("horn.wav", dtype="float32")
    two = np.stack([wave, wave])
    tensor = torch.from_numpy(two.T).requires_grad_()
    rows = model.embed(audio=["horn.wav", (wave, rate), (two, float(rate)), (tensor, rate)]).audio
    assert torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-6)
    whole = np.round(20_000 * wave).astype(np.int16)
    one, other = model.embed(audio=[(whole, np.int64(rate)), (whole / 2**15, rate)]).audio
    assert torch.allclose(one, other, atol=1e-6)
    assert model.embed(audio=(wave, rate)).audio.shape == (1, 16)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"image": ["photos/no.png"]}, "photos/no.png: cannot be read"),
        ({"image": ["horn.wav"]}, "horn.wav is not a file of image"),
        ({"image": [np.zeros((4, 4, 3))]}, "an array of float64 [4, 4, 3]; give uint8"),
        ({"image": [b"nothing"]}, "image number 0 cannot be embedded (image: not a known format)"),
        ({"audio": [np.zeros(9)]}, "audio: ndarray cannot be embedded; give a path, bytes or (wave, rate)"),
        (
            {"audio": (np.zeros(9, np.uint8), 8000)},
            "audio: a wave of uint8; give floats from -1 to 1, or signed integers",
        ),
        ({"audio": (np.zeros(9), 0)}, "audio: a wave of shape [9] at 0; give"),
        ({"text": "a", "batch_size": 0}, "batch_size is 0"),
        ({"picture": ["boat.jpg"]}, "exported has no picture tower"),
    ],
)
def test_inputs_that_cannot_be_embedded_are_errors_of_one_line(
    model: Model, given: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UserError) as caught:
        model.embed(**given)
    assert complaint in str(caught.value)


def test_a_model_without_an_image_tower_refuses_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    towers = {name: tower for name, tower in SPACE["model"].items() if name != "image"}
    config = SpaceConfig.model_validate({"model": towers, "pairs": {"audio-text": 1.0}})
    heard = str(export_folder(build_model(config.model, config.terms, seed=3), config, tmp_path / "heard"))
    message = (
        "the model encodes audio and text, and val.csv holds image and text; name data with audio, or another model"
    )
    with pytest.raises(UserError, match=message):
        tercet.evaluate(heard, data="val.csv")
    assert tercet.embed(heard, "val.csv").modalities == ["text"]
    assert "val.csv: image is left out: the model has no encoder for it" in capsys.readouterr().err
    with pytest.raises(UserError, match="no sample of photos has a modality that the model encodes"):
        tercet.embed(heard, "photos")
    with pytest.raises(UserError, match="no sample of the data has a modality that the model encodes"):
        tercet.evaluate(heard, data="photos")


def test_the_parquet_file_holds_the_vectors_of_the_store(model: Model) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert main(["embed", "exported", "--data", "photos.csv", "--out", "table", "--format", "parquet"]) == 0
    rows = parquet.read_table("table/embeddings.parquet").to_pylist()
    table = tercet.embed(model, "photos.csv").table()
    assert torch.tensor([row["image"] for row in rows]).equal(table.vectors["image"])
    assert [row["caption"] for row in rows] == [captioned(number) for number in range(48)]
    assert "audio" not in rows[0]


def test_search_takes_the_same_inputs_as_embed(model: Model) -> None:
    index = tercet.index(model, "photos.csv")
    path = Path("photos/7.png")
    asked = [index.search(query, k=3) for query in (str(path), path, Image.open(path), pixels(7))]
    asked.append(index.search(image=path.read_bytes(), k=3))
    assert {tuple(found) for found in asked} == {tuple(asked[0])}
    assert asked[0][0].path == str(path)
    assert asked[0][0].score == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "photos", "--stored", "fp32"], "embed: --stored goes with --views only"),
        (["--data", "photos", "--classes", "names.txt"], "embed: --classes goes with --views only"),
        (["--data", "photos", "--top", "5"], "embed: --top goes with --views only"),
        (["--views", "clip", "--data", "photos"], "embed: --data does not go with --views"),
        (["--views", "clip", "--dims", "8"], "embed: --dims does not go with --views"),
        (["--views", "clip", "--format", "column"], "embed: --format does not go with --views"),
        (["--views", "clip", "--top", "5"], "embed: --top is 5; it goes with --classes only"),
        (["--views", "clip", "--classes", "names.txt", "--top", "0"], "embed: --top is 0; give 1 or more"),
    ],
)
def test_options_of_embed_that_would_have_no_effect_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", "model", "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
