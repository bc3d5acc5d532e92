"""Further pictures and sounds of a sample, and captions that describe them row by row."""

import csv
import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import FileDecoder
from tercet.data_pipelines.fields import FieldConfig, further_fields
from tercet.data_pipelines.preflight.declared import check_further_files
from tercet.data_pipelines.sample import AudioIntake, Batch, ImageIntake, Intake, Sample, TextIntake
from tercet.data_pipelines.shards.index import arrange
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.tar import members
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.open import open_split
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.data_pipelines.stream.loader import StreamLoader
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.errors import UserError

ITEMS, WRONG = 20, 5
FIELDS = {
    "text.negative": {"from": "json.negatives", "rows": 3},
    "image.negative": {"from": "file.negative", "rows": 2, "paired": "text.negative"},
    "image.other": {"from": "file.other", "rows": 4},
    "audio.negative": {"from": "file.negative"},
}


def tokenize(captions: Any) -> torch.Tensor:
    return torch.tensor([list(caption.encode().ljust(12)[:12]) for caption in captions])


INTAKES: dict[str, Intake] = {
    "image": ImageIntake((4, 4)),
    "audio": AudioIntake(8000, 0.01),
    "text": TextIntake(tokenize),
}
FURTHER = further_fields(FIELDS, {name: FieldConfig.model_validate(one) for name, one in FIELDS.items()}, INTAKES)


def plain(value: int) -> bytes:
    """A picture of one colour."""
    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (6, 6), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def pictured(item: int) -> list[int]:
    """Which of the wrong captions of an item have a picture."""
    return [place for place in range(WRONG) if (item + place) % 3]


def item_of(item: int, sound: Callable[..., bytes]) -> dict[str, Any]:
    """Wrong caption `place` of an item says `ITEM PLACE`, and its picture has the colour 10 · ITEM + PLACE."""
    negatives = [{"kind": "k", "text": f"{item} {place}"} for place in range(WRONG)]
    files: dict[str, Any] = {"__key__": f"{item:02d}", "png": plain(250), "txt": "a right one"}
    files["json"] = json.dumps({"negatives": negatives if item % 4 else []}).encode()
    files |= {f"negative.{place}.png": plain(10 * item + place) for place in pictured(item)}
    if item % 2:
        files["other.png"] = plain(item)
        files["negative.flac"] = sound(np.full(80, item / 100), 8000)
    return files


@pytest.fixture
def shard(pack: Callable[..., Path], sound: Callable[..., bytes]) -> Path:
    return pack("0.tar", [item_of(item, sound) for item in range(ITEMS)])


def batches(source: Source, count: int, **options: Any) -> list[Batch]:
    data = {name: options.pop(name) for name in list(options) if name in DataConfig.model_fields}
    config = DataConfig.model_validate({"train": "here", "streams": 4, "window": 6, "workers": 0, "crop": None} | data)
    return list(islice(Loader(config, {"train": source}, INTAKES, 4, seed=5, further=FURTHER, **options), count))


def rows_of(batch: Batch, name: str, item: int) -> list[Any]:
    field = batch.fields[name]
    values = field.values[field.item == item]
    if name.startswith("text"):
        return [tuple(map(int, bytes(row.tolist()).decode().split())) for row in values]
    return values.flatten(1).double().mean(dim=1).tolist()


def check_pairs(parts: list[Batch]) -> set[tuple[int, int]]:
    """Row j of the pictures shows what row j of the captions says. Returns which pictures were seen."""
    seen = set()
    for batch in parts:
        for at, item in enumerate(batch.ids.tolist()):
            captions, pictures = (rows_of(batch, name, at) for name in ("text.negative", "image.negative"))
            assert len(captions) == (3 if item % 4 else 0)
            assert len(pictures) == (min(2, len(pictured(item))) if item % 4 else 0)
            assert [10 * one + place for one, place in captions][: len(pictures)] == pictures
            seen |= {(item, round(value) - 10 * item) for value in pictures}
    return seen


def test_captions_and_their_pictures_stay_together(shard: Path) -> None:
    seen = check_pairs(batches(open_shards(str(shard)), 40))
    assert seen == {(item, place) for item in range(ITEMS) if item % 4 for place in pictured(item)}


def test_files_without_captions_are_drawn_by_themselves(shard: Path) -> None:
    for batch in batches(open_shards(str(shard)), 5):
        for at, item in enumerate(batch.ids.tolist()):
            assert rows_of(batch, "image.other", at) == ([item] if item % 2 else [])
            assert rows_of(batch, "audio.negative", at) == pytest.approx([item / 100] if item % 2 else [], abs=1e-3)


def test_evaluation_takes_the_first_ones_in_order(shard: Path) -> None:
    source = open_shards(str(shard))
    decoder = FileDecoder(INTAKES, SplitConfig(source="here"), further=FURTHER)
    (files,) = source.read([1], decoder.wanted)
    sample = decoder.sample("01", 1, files, CentreView())
    assert isinstance(sample, Sample)
    assert pictured(1) == [0, 1, 3, 4]
    assert sample.captions("text.negative") == ("1 0", "1 1", "1 3")
    assert [int(row[0, 0, 0]) for row in sample.media_rows("image.negative")] == [10, 11]


def test_rows_do_not_depend_on_the_number_of_ranks(shard: Path) -> None:
    source = open_shards(str(shard))

    def rows(parts: list[Batch]) -> list[object]:
        return [
            (int(batch.ids[at]), [rows_of(batch, name, at) for name in FIELDS])
            for batch in parts
            for at in range(len(batch))
        ]

    ranks = [batches(source, 6, rank=rank, world=2, workers=2, worker="thread") for rank in (0, 1)]
    assert rows([part for pair in zip(*ranks, strict=True) for part in pair]) == rows(batches(source, 6))


def test_only_the_wanted_files_are_read(shard: Path) -> None:
    source = open_shards(str(shard))
    (files,) = source.read([1], {"json", "negative.image"})
    assert sorted(files) == ["json", "negative.0.png", "negative.1.png", "negative.3.png", "negative.4.png"]
    (files,) = source.read([1], {"negative.audio", "other.audio"})
    assert sorted(files) == ["negative.flac"]
    (files,) = source.read([1], {"png"})
    assert sorted(files) == ["png"]


def test_further_files_belong_to_the_sample_of_their_key_and_make_none(tmp_path: Path) -> None:
    """Also those before the other files of a sample. Files of no sample, and second ones, are counted."""
    names = [
        "a.bad.0.jpg", "a.jpg", "a.txt", "a.wrong.flac",
        "x.bad.jpg", "b.bad.jpg", "b.jpg", "b.BAD.0.JPG", "b.bad.0.jpg",
        "b.jpg", "b.bad.jpg", "c.bad.jpg", "d.jpg", "d.0.jpg", "d.seg.npy",
    ]  # fmt: skip
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    index, census = arrange(members(str(path)))
    ends = index.first.tolist()
    files = [[index.extensions[code] for code in index.code_M[a:b]] for a, b in pairwise(ends)]
    assert files == [
        ["jpg", "bad.0.jpg", "txt", "wrong.flac"],
        ["jpg", "bad.jpg", "bad.0.jpg"],
        ["jpg", "bad.0.jpg", "bad.jpg"],
        ["jpg"],
    ]
    assert dict(census.passed_over) == {"bad.jpg": 2, "0.jpg": 1, "seg.npy": 1}
    assert sum(census.files.values()) + sum(census.passed_over.values()) == len(names)


def test_tables_have_columns_of_further_files(tmp_path: Path, sound: Callable[..., bytes]) -> None:
    """One path, a list as JSON, and nothing."""
    for place in range(3):
        (tmp_path / f"{place}.png").write_bytes(plain(place))
    (tmp_path / "a.png").write_bytes(plain(200))
    (tmp_path / "w.wav").write_bytes(sound(np.zeros(80), 8000, "WAV"))
    cells = ["0.png", '["1.png", "2.png"]', ""]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["image", "caption", "wrong", "noise"], *(["a.png", "c", cell, "w.wav"] for cell in cells)])
    split = SplitConfig(source=str(tmp_path / "t.csv"), files={"negative": "wrong", "hum": "noise"})
    source = open_split(DataConfig(train={"t": split.model_dump()}), split)  # type: ignore[dict-item]
    found = source.read(range(3), {"png", "negative.image", "hum.audio"})
    assert [sorted(files) for files in found] == [
        ["hum.0.wav", "negative.0.png", "png"],
        ["hum.0.wav", "negative.0.png", "negative.1.png", "png"],
        ["hum.0.wav", "png"],
    ]
    (files,) = source.read([1], {"json", "negative.image"})
    assert [files["negative.0.png"], files["negative.1.png"]] == [plain(1), plain(2)]
    assert "wrong" not in json.loads(files["json"])


def test_bytes_in_a_table_are_recognised(tmp_path: Path, sound: Callable[..., bytes]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = {"image": [{"bytes": plain(9)}], "text": ["c"], "w": [[{"bytes": sound(np.zeros(80), 8000)}]]}
    parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
    split = SplitConfig(source=str(tmp_path / "t.parquet"), files={"negative": "w"})
    source = open_split(DataConfig(train={"t": split.model_dump()}), split)  # type: ignore[dict-item]
    (files,) = source.read([0], {"negative.audio"})
    assert list(files) == ["negative.0.flac"]


def test_a_stream_reads_them_too(shard: Path) -> None:
    data = DataConfig.model_validate({"train": str(shard), "mode": "stream", "workers": 1, "crop": None})
    (batch,) = islice(StreamLoader(data, INTAKES, 8, seed=0, further=FURTHER), 1)
    for at in range(len(batch)):
        captions, pictures = (rows_of(batch, name, at) for name in ("text.negative", "image.negative"))
        assert [10 * one + place for one, place in captions][: len(pictures)] == pictures
    assert len(batch.fields["image.negative"]) > 4


def test_an_empty_caption_would_shift_the_list(shard: Path) -> None:
    decoder = FileDecoder(INTAKES, SplitConfig(source="here"), further=FURTHER)
    meta = json.dumps({"negatives": ["one", " ", "three"]}).encode()
    found = decoder.sample("k", 0, {"txt": b"c", "json": meta, "negative.2.png": plain(1)}, CentreView())
    assert isinstance(found, BadSample)
    assert found.reason == "json: an empty caption in a list that files belong to"


def test_a_table_without_the_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(plain(1))
    (tmp_path / "t.csv").write_text("image,caption\na.png,c\n")
    data = DataConfig.model_validate({"train": str(tmp_path / "t.csv")})
    with pytest.raises(UserError, match=r"no further files named `negative`.*data.train.files=\{negative: COLUMN\}"):
        check_further_files(data, ["negative"], OpenedSources())
    listed = DataConfig.model_validate({"train": {"source": str(tmp_path / "t.csv"), "files": {"negative": "caption"}}})
    check_further_files(listed, ["negative"], OpenedSources())
