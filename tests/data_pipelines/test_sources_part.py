"""One set of shards split into training and validation samples."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tercet.command import main
from tercet.configs.catalogue import recipe_names
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.preflight.declared import check_source
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources import part as part_module
from tercet.data_pipelines.sources.open import open_split
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.data_pipelines.sources.part import part_by_shard
from tercet.errors import UserError
from tercet.training.recipe import load_recipe
from tests.data_pipelines.web import serving

Pack = Callable[[str, Iterable[Mapping[str, object]]], Path]
SHARDS, EACH = 5, 40


@pytest.fixture
def folder(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards with groups of three samples, which may lie in two shards. The `.json` of a sample has its number."""
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "shards").mkdir()
    for shard in range(SHARDS):
        numbers = range(shard * EACH, (shard + 1) * EACH)
        samples = [
            {"__key__": f"{n:04d}", "txt": f"c {n}", "json": {"number": n, "group": f"g{n // 3}"}} for n in numbers
        ]
        pack(f"shards/{shard}.tar", samples)
    return tmp_path / "shards"


def halves(**data: Any) -> tuple[set[int], set[int]]:
    """The numbers of the training and the validation samples. Checks that each can be read by its id."""
    config = DataConfig.model_validate(data)
    train, val = (open_split(config, split) for split in (config.train["train"], config.val["val"]))
    return numbers(train), numbers(val)


def numbers(source: Source) -> set[int]:
    files = source.read(range(len(source)), ["json"])
    found = [json.loads(one["json"])["number"] for one in files if isinstance(one, dict)]
    assert [int(source.key(id)) for id in range(len(source))] == found
    assert [Path(source.shard(id)).name for id in range(len(source))] == [f"{n // EACH}.tar" for n in found]
    assert sum(source.counts) == len(found)
    return set(found)


def test_a_folder_of_shards_is_split_by_group(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = halves(source=str(folder), held_out=0.3)
    assert train | val == set(range(SHARDS * EACH))
    assert not {n // 3 for n in train} & {n // 3 for n in val}
    assert 0.15 < len(val) / (SHARDS * EACH) < 0.45
    message = capsys.readouterr().err
    assert (
        f"{folder}: part [0, 0.3]: {len(val)} of 200 samples, split by the hash of their group (json.group)" in message
    )
    assert halves(source=str(folder), held_out=0.3) == (train, val)
    other, _ = halves(source=str(folder), held_out=0.3, split_by="file")
    assert other != train


def test_groups_are_on_the_same_side_as_in_a_table(folder: Path) -> None:
    table = folder.parent / "m.jsonl"
    (folder.parent / "a.jpg").write_bytes(b"x")
    rows = [{"image": "a.jpg", "key": f"{n:04d}", "text": "c", "number": n, "group": f"g{n // 3}"} for n in range(200)]
    table.write_text("\n".join(map(json.dumps, rows)))
    data = DataConfig.model_validate({"source": str(table), "held_out": 0.3})
    source = open_split(data, data.val["val"])
    of_table = {json.loads(one["json"])["number"] for one in source.read(range(len(source)), ["json"]) if dict(one)}
    assert of_table == halves(source=str(folder), held_out=0.3)[1]


@pytest.mark.parametrize("many", [False, True], ids=["as the config says", "a large set"])
def test_whole_shards_are_held_out(folder: Path, monkeypatch: pytest.MonkeyPatch, many: bool) -> None:
    if many:
        monkeypatch.setattr(part_module, "MANY_SAMPLES", 100)
        monkeypatch.setattr(part_module, "MANY_SHARDS", SHARDS)
    train, val = halves(source=str(folder), held_out=0.1, **({} if many else {"split_by": "shard"}))
    assert train | val == set(range(SHARDS * EACH))
    assert len(val) == EACH
    assert len({n // EACH for n in val}) == 1


def test_both_sides_of_a_split_have_a_shard() -> None:
    shards = [f"a/{number:03d}.tar" for number in range(50)]
    for share in (0.001, 0.1, 0.5, 0.999):
        val, train = part_by_shard(shards, (0, share)), part_by_shard(shards, (share, 1))
        assert sorted(train + val) == shards
        assert len(val) == min(max(round(share * 50), 1), 49)
    assert part_by_shard(shards, (0, 1)) == shards
    with pytest.raises(UserError, match=r"none of the 1 shards lies in the part \[0, 0.1\]"):
        part_by_shard(["a.tar"], (0, 0.1))


def test_remote_shards_are_split_without_fetching_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as web:
        urls = [web.put(f"/{n}.tar", (folder / f"{n}.tar").read_bytes()) for n in range(SHARDS)]
        data = DataConfig.model_validate({"source": urls, "held_out": 0.2})
        source = open_split(data, data.val["val"])
        assert len(source) == EACH
        assert sum(web.asked[f"/{n}.tar"] > 0 for n in range(SHARDS)) == 1
        alone = DataConfig.model_validate({"source": urls[:1], "held_out": 0.2})
        sides = [open_split(alone, split) for split in (alone.train["train"], alone.val["val"])]
        assert sum(map(len, sides)) == EACH
        assert all(map(len, sides))


def test_a_stream_is_split_by_whole_shards(folder: Path) -> None:
    data = DataConfig.model_validate({"source": str(folder), "mode": "stream"})
    assert {data.train["train"].split_by, data.val["val"].split_by} == {"shard"}
    with pytest.raises(UserError, match=r"`data.train.train.part` cannot be streamed .* set `split_by: shard`"):
        load_recipe("image_text", [f"data={folder}", "data.mode=stream", "data.split_by=group"])


def test_a_table_cannot_be_split_by_shard(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="is not a set of shards; set `split_by` to group or file"):
        halves(source=str(tmp_path), split_by="shard")


BUILT_IN = {"demo", "strong_baseline"}  # their data
OWN_FILES = {"glap", "jina_clip_v1", "jina_clip_v2", "paraclap", "zerovl"}  # they name files of their own


@pytest.mark.parametrize("recipe", sorted({*recipe_names()} - BUILT_IN - OWN_FILES))
def test_a_bundled_recipe_takes_a_single_path(recipe: str, folder: Path) -> None:
    config = load_recipe(recipe, [f"data.train={folder}"])
    for split in (*config.data.train.values(), *config.data.val.values()):
        check_source(split, OpenedSources())
        assert len(open_split(config.data, split))
    held_out = [split.part for split in config.data.val.values()]
    if config.eval.tasks:
        assert held_out in ([(0.0, 0.1)], [(0.0, 0.02)])
    else:
        assert held_out == []


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("nodir", "nodir does not exist; name a folder, a table, or shards as"),
        ("nodir/{0..2}.tar", r"nodir/0.tar does not exist \(nor do 2 more\)"),
        ("nodir/*.tar", r"no file matches nodir/\*.tar"),
    ],
)
def test_a_missing_path_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: str, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=error):
        find_shards(data)
    assert main(["train", "image_text", f"data.train={data}", "--dry-run"]) == 2
    assert "does not exist" in (message := capsys.readouterr().err) or "no file matches" in message
