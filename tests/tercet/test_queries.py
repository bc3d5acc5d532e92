"""Queries of a search: words, files or arrays; wrong ones are errors of one line."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from tercet.api.index import Index
from tercet.api.model import Model
from tercet.api.query import modality_of
from tercet.errors import UserError
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig

TOWER = {"width": 32, "heads": 2}
SPACE = {
    "model": {
        "dim": 16,
        "image": {"encoder": "small:image", "size": 32, "options": TOWER},
        "text": {"encoder": "small:text", "options": TOWER},
    },
    "pairs": {"image-text": 1.0},
}


@pytest.fixture(scope="module")
def model() -> Model:
    config = SpaceConfig.model_validate(SPACE)
    return Model(build_model(config.model, config.terms, seed=0), "tiny")


@pytest.mark.parametrize(
    "words", ["a red boat", "boat", "what is in boat.png", "a very long description " * 40, "boat.2"]
)
def test_words_of_any_length_are_text(words: str) -> None:
    assert modality_of(words) == "text"


def test_the_name_of_a_file_decides_its_modality(tmp_path: Path) -> None:
    for name, modality in [("my boat.PNG", "image"), ("horn.wav", "audio"), ("boat", "text")]:
        (tmp_path / name).touch()
        assert modality_of(str(tmp_path / name)) == modality


def test_a_file_that_is_no_picture_or_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "memo.m4a").touch()
    with pytest.raises(UserError, match=r"memo\.m4a is not a picture or a sound; a query is words, or the path"):
        modality_of(str(tmp_path / "memo.m4a"))


def test_a_mistyped_path_is_refused() -> None:
    with pytest.raises(UserError, match=r"there is no file photos/baot\.png; a query is words, or the path"):
        modality_of("photos/baot.png")
    for empty in ("", " \n"):
        with pytest.raises(UserError, match=r"the query is empty; a query is words, or the path"):
            modality_of(empty)


@pytest.mark.parametrize(
    ("query", "modality"),
    [
        (Image.new("RGB", (8, 8)), "image"),
        (np.zeros((8, 8, 3), np.uint8), "image"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), "image"),
        ((np.zeros(800), 16000), "audio"),
    ],
)
def test_the_type_of_a_query_decides_its_modality(query: Any, modality: str) -> None:
    assert modality_of(query) == modality


@pytest.mark.parametrize("query", [3, b"picture", ["a boat"]])
def test_an_ambiguous_query_needs_the_name_of_its_modality(query: Any) -> None:
    kind = type(query).__name__
    with pytest.raises(UserError, match=f"the query is of type {kind}; .* name the modality, as in search.image=…"):
        modality_of(query)


@pytest.mark.parametrize("query", [{}, {"text": ["a", "b"]}, {"query": "a", "image": np.zeros((8, 8, 3), np.uint8)}])
def test_a_search_takes_exactly_one_query(model: Model, query: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"a search takes one query, and not [02]"):
        Index(model, Mock(), Mock()).search(**query)


def test_a_path_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="there is no file nothing"):
        modality_of(Path("nothing"))


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_refused(model: Model, k: int) -> None:
    with pytest.raises(UserError, match=f"k is {k}, .*; give 1 or more"):
        Index(model, Mock(), Mock()).search("a boat", k)


@pytest.mark.parametrize("thing", [3, None, b"a boat", Path("boat")])
def test_text_that_is_not_a_string_is_refused(model: Model, thing: Any) -> None:
    with pytest.raises(UserError, match=f"text: {type(thing).__name__} cannot be embedded; give strings"):
        model.embed(text=[thing])
