"""Reads every kind of manifest, written by the usual writer of its format."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.command import main
from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.copies import Copies
from tercet.data_pipelines.shards.patience import Patience
from tercet.errors import UserError
from tercet.modality import FILES
from tests.data_pipelines.listed import config, loader, opened, taken
from tests.data_pipelines.web import Web, serving

Picture = Callable[..., bytes]
WANTED = ("jpg", "png", "wav", "txt", "json")


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    with serving() as web:
        yield web


def read_all(**source: Any) -> list[tuple[bytes, bytes]]:
    """The picture and the captions of every sample."""
    opening = opened(**source)
    found = [files for files in opening.read(range(len(opening)), WANTED) if not isinstance(files, BadSample)]
    assert len(found) == len(opening)
    return [(files.get("jpg") or files["png"], files.get("txt", b"")) for files in found]


def hugging_face(pa: Any, rows: list[dict[str, Any]]) -> Any:
    """Pictures, captions and classes, as `datasets` writes them."""
    features = {"image": {"_type": "Image"}, "label": {"names": ["red_fox", "dog"], "_type": "ClassLabel"}}
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema(
        {"image": image, "caption": pa.string(), "label": pa.int64()},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    return pa.Table.from_pylist(rows, schema=schema)


@pytest.fixture
def pictured(picture: Picture) -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": picture(i, format="jpeg"), "path": f"{i}.jpg"}, "caption": f"c {i}", "label": i % 2}
        for i in range(20)
    ]


def saved(pa: Any, folder: Path, parts: list[list[dict[str, Any]]], **options: Any) -> Path:
    """A dataset in the layout of `save_to_disk`."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(parts):05d}.arrow" for i in range(len(parts))]
    for name, rows in zip(names, parts, strict=True):
        table = hugging_face(pa, rows)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema, **options) as stream:
            stream.write_table(table, max_chunksize=7)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def of(rows: list[dict[str, Any]]) -> list[tuple[bytes, bytes]]:
    return [(row["image"]["bytes"], row["caption"].encode()) for row in rows]


def test_parquet_with_pictures_in_its_cells(tmp_path: Path, pictured: list[dict[str, Any]]) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for number in (0, 1):
        table = hugging_face(pa, pictured[10 * number :][:10])
        pq.write_table(table, tmp_path / f"part-{number}.parquet", row_group_size=3)
    plain = pa.table({"image": [row["image"]["bytes"] for row in pictured], "text": [r["caption"] for r in pictured]})
    pq.write_table(plain, tmp_path / "plain.parquet")
    assert read_all(source=str(tmp_path / "part-*.parquet")) == of(pictured)
    assert read_all(source=[str(tmp_path / "part-{0,1}.parquet")]) == of(pictured)
    assert read_all(source=str(tmp_path / "plain.parquet")) == of(pictured)
    source = opened(source=str(tmp_path / "part-*.parquet"))
    assert (source.shard(12), source.key(12)) == (str(tmp_path / "part-1.parquet"), "row 3")


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_a_saved_hugging_face_dataset(tmp_path: Path, pictured: list[dict[str, Any]], compression: str | None) -> None:
    pa = pytest.importorskip("pyarrow")
    options = {"options": pa.ipc.IpcWriteOptions(compression=compression)}
    pictured[3]["image"] = {"bytes": None, "path": "beside.jpg"}
    folder = saved(pa, tmp_path / "set" / "train", [pictured[:13], pictured[13:]], **options)
    (folder / "beside.jpg").write_bytes(pictured[4]["image"]["bytes"])
    expected = [*of(pictured[:3]), (pictured[4]["image"]["bytes"], b"c 3"), *of(pictured[4:])]
    assert read_all(source=f"hf:{folder}") == read_all(source=str(folder)) == expected
    held = sum(path.stat().st_size for path in (folder / ".index").glob("*.bytes"))
    assert held == (0 if compression is None else sum(len(data) for data, _ in of(pictured) if data))


def test_tables_with_pictures_in_their_cells_are_packed(tmp_path: Path, pictured: list[dict[str, Any]]) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(hugging_face(pa, pictured), tmp_path / "set.parquet")
    arrow = saved(pa, tmp_path / "set", [pictured]) / "data-00000-of-00001.arrow"
    for path in (tmp_path / "set.parquet", arrow):
        out = tmp_path / f"packed{path.suffix}"
        assert main(["data", "pack", str(path), "--out", str(out), "--workers", "1"]) == 0
        assert read_all(source=str(out)) == of(pictured)


def test_a_column_with_the_name_of_a_plugin_modality_lists_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FILES, "series", ("f32",))
    (tmp_path / "a.f32").write_bytes(b"0123")
    (tmp_path / "m.csv").write_text("series,text\na.f32,a caption\n")
    source = opened(source=str(tmp_path / "m.csv"))
    assert source.read([0], ["f32", "txt"]) == [{"txt": b"a caption", "f32": b"0123"}]
    (tmp_path / "m.csv").unlink()
    assert opened(source=str(tmp_path)).read([0], ["f32"]) == [{"f32": b"0123"}]


def test_splits_of_a_dataset_are_selected_by_name(tmp_path: Path, pictured: list[dict[str, Any]]) -> None:
    pa = pytest.importorskip("pyarrow")
    saved(pa, tmp_path / "set" / "train", [pictured])
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(UserError, match=r"contains the splits train, test; name one of them, as hf:.*/train"):
        opened(source=f"hf:{tmp_path / 'set'}")


def test_numbered_classes_become_captions(tmp_path: Path, pictured: list[dict[str, Any]]) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = saved(pa, tmp_path / "set", [pictured])
    pq.write_table(hugging_face(pa, pictured), tmp_path / "set.parquet")
    asked = {"text": "label", "templates": ["a photo of a {}.", "{}"]}
    expected = [b"a photo of a red fox.\nred fox", b"a photo of a dog.\ndog"] * 10
    assert [text for _, text in read_all(source=f"hf:{folder}", **asked)] == expected
    assert [text for _, text in read_all(source=str(tmp_path / "set.parquet"), **asked)] == expected


def test_a_dataset_saved_by_the_datasets_package(tmp_path: Path, pictured: list[dict[str, Any]]) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list(pictured).cast_column("image", datasets.Image())
    rows.save_to_disk(tmp_path / "set", num_shards=3)
    assert read_all(source=f"hf:{tmp_path / 'set'}") == of(pictured)


def folder_of(tmp_path: Path, picture: Picture) -> Path:
    for i, name in enumerate(("red_fox/1.jpg", "red_fox/2.jpg", "dog/a/1.png", "dog/2.jpg", "own.jpg")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i, format=path.suffix[1:].replace("jpg", "jpeg")))
    (tmp_path / "photos/dog/2.txt").write_text("a dog in the snow")
    (tmp_path / "photos/red_fox/2.json").write_text('{"caption": "foxes", "class": "vulpes"}')
    return tmp_path / "photos"


def test_class_folders_become_captions_of_files_without_one(tmp_path: Path, picture: Picture) -> None:
    folder = folder_of(tmp_path, picture)
    source = opened(source=str(folder))
    found = {source.key(id): files for id in range(5) for files in source.read([id], WANTED) if isinstance(files, dict)}
    assert {key: files.get("txt") for key, files in found.items()} == {
        "red_fox/1": b"a photo of a red fox.",
        "red_fox/2": None,
        "dog/a/1": b"a photo of an a.",
        "dog/2": b"a dog in the snow",
        "own": None,
    }
    assert json.loads(found["red_fox/2"]["json"]) == {"class": "vulpes", "caption": "foxes"}
    assert [text for _, text in read_all(source=f"{folder}/red_fox/1.*")] == [b""]
    other = read_all(source=f"{folder}/**/1.jpg", templates="the {}")
    assert other == [((folder / "red_fox/1.jpg").read_bytes(), b"the red fox")]


def test_class_folders_of_sounds_have_a_template_for_sounds(
    tmp_path: Path, picture: Picture, sound: Callable[..., bytes]
) -> None:
    (tmp_path / "red_fox").mkdir()
    for name, content in [("a.wav", sound(np.zeros(80), 8000, "WAV")), ("b.png", picture(0)), ("b.wav", b"RIFF")]:
        (tmp_path / "red_fox" / name).write_bytes(content)
    heard, seen = opened(source=str(tmp_path)).read([0, 1], ["txt"])
    assert heard == {"txt": b"This is a sound of red fox."}
    assert seen == {"txt": b"a photo of a red fox."}


def test_a_folder_is_read_again_when_files_are_added_or_removed(tmp_path: Path, picture: Picture) -> None:
    folder = folder_of(tmp_path, picture)
    assert len(opened(source=str(folder))) == 5
    (folder / "dog/a/3.jpg").write_bytes(picture(3, format="jpeg"))
    assert len(opened(source=str(folder))) == 6
    (folder / "red_fox/1.jpg").unlink()
    (folder / "cat").mkdir()
    (folder / "cat/1.jpg").write_bytes(picture(4, format="jpeg"))
    assert [opened(source=str(folder)).key(id) for id in range(6)][:2] == ["own", "cat/1"]


def test_pictures_behind_urls_are_fetched_once(tmp_path: Path, picture: Picture, web: Web) -> None:
    data = [picture(i, format="jpeg") for i in range(12)]
    urls = [web.put(f"/p/{i}.jpg", one, *(["500"] if i == 3 else [])) for i, one in enumerate(data)]
    urls.append(f"{web.url}/p/none.jpg")
    (tmp_path / "m.csv").write_text("image,caption\n" + "".join(f"{url},c\n" for url in urls))
    source = opened(source=str(tmp_path / "m.csv"))
    asked = []
    for _ in range(2):
        found = source.read(range(13), WANTED)
        assert [one["jpg"] for one in found[:12] if not isinstance(one, BadSample)] == data
        assert isinstance(found[12], BadSample)
        assert found[12].reason == "image: cannot be fetched"
        asked.append([web.asked[f"/p/{i}.jpg"] for i in range(12)])
    assert asked[0] == asked[1]
    assert asked[0][3] == 2  # the first answer was an error


def test_a_table_behind_a_url_names_files_beside_it(picture: Picture, web: Web) -> None:
    data = picture(0, format="jpeg")
    web.put("/data/a/0.jpg", data)
    table = web.put("/data/m.csv", b"image,caption\na/0.jpg,one\n../data/a/0.jpg,two\n")
    assert read_all(source=table) == [(data, b"one"), (data, b"two")]


def test_cached_copies_stay_below_their_limit(tmp_path: Path, web: Web) -> None:
    copies = Copies(tmp_path / "files", limit_bytes=256 * 2500, patience=Patience(1, 1.0, 0.0))
    for i in range(700):
        copies._keep(copies._place(f"http://x/{i}"), bytes(1000))
    held = [len(list(folder.iterdir())) for folder in (tmp_path / "files").iterdir()]
    assert max(held) == 2
    url = web.put("/1.jpg", b"12345")
    assert copies.read("image", url) == b"12345"


def test_a_slow_download_is_read_completely(tmp_path: Path, web: Web) -> None:
    copies = Copies(tmp_path / "files", patience=Patience(1, 5.0, 0.0))
    data = bytes(range(256)) * 40
    assert copies.read("image", web.put("/slow.jpg", data, "slow")) == data


def test_sounds_and_pictures_of_one_table(tmp_path: Path, picture: Picture, sound: Callable[..., bytes]) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    (tmp_path / "a.wav").write_bytes(sound(np.linspace(-0.5, 0.5, 500), 8000, "WAV"))
    rows = [{"image": "a.png", "audio": "a.wav", "text": ["one", "two"]}, {"audio": "a.wav", "text": "three"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    both, alone = opened(source=str(tmp_path / "m.jsonl")).read([0, 1], WANTED)
    assert isinstance(both, dict)
    assert isinstance(alone, dict)
    assert (set(both), both["txt"]) == ({"png", "wav", "txt", "json"}, b"one\ntwo")
    assert (set(alone), alone["txt"]) == ({"wav", "txt", "json"}, b"three")


def test_a_saved_dataset_makes_batches(tmp_path: Path, pictured: list[dict[str, Any]]) -> None:
    pa = pytest.importorskip("pyarrow")
    folder = saved(pa, tmp_path / "set", [pictured])
    batches = taken(loader(config(source=f"hf:{folder}")), 5)
    assert sorted(id for batch in batches for id in batch.ids.tolist()) == sorted([*range(20)] * 2)


def test_the_path_of_a_sample_depends_on_the_modality(
    tmp_path: Path, picture: Picture, sound: Callable[..., bytes]
) -> None:
    (tmp_path / "seen.png").write_bytes(picture(0))
    (tmp_path / "heard.wav").write_bytes(sound(np.zeros(80), 8000, "WAV"))
    table = tmp_path / "both.csv"
    table.write_text("image,audio,text\nseen.png,heard.wav,a dog\nseen.png,,a cat\n")
    source = opened(source=str(table))
    found = [Path(source.path(0, modality)).name for modality in ("image", "audio", "text")]
    assert found == ["seen.png", "heard.wav", "heard.wav"]
    assert Path(source.path(1, "audio")).name == "seen.png"
