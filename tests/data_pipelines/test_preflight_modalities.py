"""The data must hold every modality that is trained, or the loss would silently be 0."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.preflight.modalities import check_modalities
from tercet.data_pipelines.sources.open import open_split
from tercet.errors import UserError

BOTH = ("image", "text")
Picture = Callable[..., bytes]


def check(sources: Mapping[str, Mapping[str, Any]], *modalities: str) -> None:
    """Raises an error if the data lack a modality, and does nothing else."""
    data = DataConfig.model_validate({"train": sources})
    check_modalities(data.train, {name: open_split(data, split) for name, split in data.train.items()}, modalities)


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    """30 pictures without captions."""
    for number in range(30):
        place = tmp_path / "photos" / f"{number:02}.jpg"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(picture(number, format="jpeg"))
    return tmp_path / "photos"


def test_data_without_captions_are_refused(folder: Path) -> None:
    check({"a": {"source": str(folder)}}, "image")
    with pytest.raises(UserError, match=r"no sample of .*photos holds text, .* \(30 samples checked\); add captions"):
        check({"a": {"source": str(folder)}}, *BOTH)


@pytest.mark.parametrize("file_name", ["29.txt", "29.json"])
def test_one_caption_in_the_last_sample_is_enough(folder: Path, file_name: str) -> None:
    (folder / file_name).write_text("a boat" if file_name.endswith("txt") else '{"caption": "a boat"}')
    check({"a": {"source": str(folder)}}, *BOTH)


def test_a_sidecar_may_hold_all_captions(folder: Path, tmp_path: Path) -> None:
    sidecar = tmp_path / "more.jsonl"
    sidecar.write_text('{"key": "29", "rewrites": ["a boat"]}\n')
    source = {"source": str(folder), "captions": {"json.rewrites": 1}}
    check({"a": {**source, "sidecar": str(sidecar)}}, *BOTH)
    with pytest.raises(UserError, match="holds text"):
        check({"a": source}, *BOTH)


def test_a_json_without_captions_does_not_count(folder: Path) -> None:
    (folder / "29.json").write_text('{"licence": "free"}')
    with pytest.raises(UserError, match="holds text"):
        check({"a": {"source": str(folder)}}, *BOTH)


def test_another_source_may_hold_the_modality_if_its_fields_include_it(folder: Path, pack: Any, tmp_path: Path) -> None:
    shard = pack("0.tar", [{"__key__": "a", "txt": "a boat"}])
    words = {"source": str(shard)}
    check({"a": {"source": str(folder)}, "b": words}, *BOTH)
    with pytest.raises(UserError, match=r"no sample of .*photos holds text"):
        check({"a": {"source": str(folder)}, "b": {**words, "fields": ["image"]}}, *BOTH)
    with pytest.raises(UserError, match=r"no sample of .*0\.tar holds audio.*leave audio out"):
        check({"b": words}, "text", "audio")
