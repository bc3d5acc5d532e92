"""Warnings about data whose samples all have the same caption or group."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.preflight.variety import warn_if_all_alike
from tercet.data_pipelines.sources.opened import OpenedSources
from tests.data_pipelines.listed import write_csv


@pytest.fixture
def warned(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def warned(*modalities: str, **sources: dict[str, Any]) -> str:
        data = DataConfig.model_validate({"train": sources})
        opened = OpenedSources()
        found = {name: opened.open(data, split) for name, split in data.train.items()}
        warn_if_all_alike(data.train, found, modalities or ("image", "text"))
        return capsys.readouterr().err

    return warned


def captioned(pack: Callable[..., Path], name: str, *captions: str, **more: str) -> dict[str, Any]:
    samples = [{"__key__": str(number), "txt": caption, **more} for number, caption in enumerate(captions)]
    return {"source": str(pack(name, samples))}


def test_equal_captions_of_all_samples_give_a_warning(pack: Callable[..., Path], warned: Callable[..., str]) -> None:
    same = captioned(pack, "same.tar", *["A photo", "a photo "] * 20)
    assert "warning: all 40 checked samples have the same caption" in warned(same=same)
    assert warned("image", same=same) == "", "nothing is learned from captions here"
    assert warned(late=captioned(pack, "late.tar", *["a photo"] * 20, "a boat", "a photo")) == ""
    assert warned(one=captioned(pack, "one.tar", "a photo")) == ""
    assert warned(same=same, other=captioned(pack, "other.tar", "a boat")) == ""


def test_one_group_or_class_of_all_samples_gives_a_warning(
    pack: Callable[..., Path], warned: Callable[..., str], picture: Callable[..., bytes], tmp_path: Path
) -> None:
    words = [f"boat {number}" for number in range(4)]
    grouped = captioned(pack, "grouped.tar", *words, json='{"group": 7}')
    assert "warning: all 4 checked samples belong to one group or class" in warned(grouped=grouped)
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number, format="jpeg"))
    table = tmp_path / "cats.csv"
    write_csv(table, [{"file": f"{number}.jpg", "class": "cat"} for number in range(3)])
    templates = ["a photo of a {}", "a drawing of a {}"]
    assert "belong to one group or class" in warned(cats={"source": str(table), "templates": templates})
    write_csv(table, [{"file": f"{number}.jpg", "class": ("cat", "dog")[number % 2]} for number in range(3)])
    assert warned(pets={"source": str(table), "templates": templates}) == ""
