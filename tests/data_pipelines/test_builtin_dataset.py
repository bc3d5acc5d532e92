"""The generated dataset on disk: reproducible, and readable by webdataset."""

import io
import json
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import soundfile
import webdataset
from PIL import Image

from tercet.data_pipelines.builtin.captions import captions
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.builtin.picture import picture
from tercet.data_pipelines.builtin.render import render
from tercet.data_pipelines.builtin.scene import scene
from tercet.data_pipelines.builtin.sound import sound
from tercet.data_pipelines.shards.write import write_shard
from tercet.errors import UserError

SMALL = WorldConfig(
    train=13, val=6, combinations=4, size=32, seconds=0.5, samples_per_shard=5, workers=1, image_format="png"
)


def digests(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in found}


def test_shards_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    one = digests(generate(SMALL, tmp_path / "one"))
    assert one == digests(generate(SMALL.model_copy(update={"workers": 2}), tmp_path / "two"))
    shards = [f"train/00000{shard}.tar" for shard in range(3)] + ["val/000000.tar", "val/000001.tar"]
    found = sorted(name for name in one if not name.startswith(".") and ".index" not in name)
    assert found == ["combinations/000000.tar", *shards, "world.json"]


def test_concurrent_writers_produce_one_dataset(tmp_path: Path) -> None:
    alone = digests(generate(SMALL, tmp_path / "alone"))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(generate, [SMALL] * 4, [tmp_path / "together"] * 4))
    assert digests(tmp_path / "together") == alone


def test_webdataset_reads_the_generated_scenes(tmp_path: Path) -> None:
    world = generate(SMALL, tmp_path)
    for split in ("train", "val", "combinations"):
        urls = [str(path) for path in sorted((world / split).glob("*.tar"))]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False))
        assert [sample["__key__"] for sample in samples] == [f"{split}-{index:07d}" for index in range(len(samples))]
        assert len(samples) == SMALL.samples(split)  # type: ignore[arg-type]
        for index, sample in enumerate(samples):
            shown = scene(SMALL, split, index)  # type: ignore[arg-type]
            assert np.array_equal(Image.open(io.BytesIO(sample["png"])), picture(shown, 32))
            wave, rate = soundfile.read(io.BytesIO(sample["flac"]))
            assert rate == SMALL.rate
            assert np.abs(wave - sound(shown, rate, 0.5)).max() < 1 / 2**15
            assert sample["txt"].decode().split("\n") == captions(shown)
            meta = json.loads(sample["json"])
            assert meta["identity"] == shown.identity
            assert meta["objects"] == [vars(thing) for thing in shown.objects]


def test_shards_store_no_time_and_no_owner(tmp_path: Path) -> None:
    path = tmp_path / "000000.tar"
    write_shard(path, [{"__key__": "a", "txt": "one", "cls": b"1"}, {"__key__": "b", "txt": "two"}])
    with tarfile.open(path) as tar:
        found = [(member.name, member.mtime, member.uid, member.gid) for member in tar]
    assert found == [("a.cls", 0, 0, 0), ("a.txt", 0, 0, 0), ("b.txt", 0, 0, 0)]
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".index", path]


def test_a_failed_shard_leaves_no_file(tmp_path: Path) -> None:
    def samples() -> object:
        yield {"__key__": "a", "txt": "one"}
        raise RuntimeError("the pencil broke")

    with pytest.raises(RuntimeError, match="pencil"):
        write_shard(tmp_path / "000000.tar", samples())  # type: ignore[arg-type]
    assert not (tmp_path / "000000.tar").exists()


def test_a_second_call_draws_nothing_and_an_interrupted_one_resumes(tmp_path: Path) -> None:
    world = generate(SMALL, tmp_path)
    whole = digests(world)
    (world / "train/000001.tar").write_bytes(b"left alone")
    generate(SMALL, tmp_path)
    assert (world / "train/000001.tar").read_bytes() == b"left alone"

    (world / "world.json").rename(world / "world.json.partial")
    (world / "train/000001.tar").rename(world / "train" / f".000001.tar.{uuid4().hex}")
    kept = (world / "train/000000.tar").stat().st_mtime_ns
    generate(SMALL, tmp_path)
    assert digests(world) == whole
    assert (world / "train/000000.tar").stat().st_mtime_ns == kept


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    generate(SMALL, tmp_path / "world")
    with pytest.raises(UserError, match="another generated world"):
        generate(SMALL.model_copy(update={"seed": 1}), tmp_path / "world")
    (tmp_path / "own/train").mkdir(parents=True)
    (tmp_path / "own/train/000000.tar").touch()
    with pytest.raises(UserError, match="contains other shards"):
        generate(SMALL, tmp_path / "own")


def test_world_json_describes_the_dataset(tmp_path: Path) -> None:
    world = json.loads((generate(SMALL, tmp_path) / "world.json").read_text())
    assert WorldConfig(**world["config"], workers=1) == SMALL
    assert world["vocabulary"]["relation"] == ["left", "right", "above", "below"]
    assert len(world["held_out"]) == 24


def test_missing_modalities_have_their_shares_and_never_coincide() -> None:
    config = SMALL.model_copy(update={"train": 800, "size": 16, "missing": {"image": 0.3, "audio": 0.2, "text": 0.1}})
    rows = [render(config, "train", index) for index in range(800)]
    lacking = {extension: [extension not in row for row in rows] for extension in ("png", "flac", "txt")}
    for extension, expected in (("png", 0.3), ("flac", 0.2), ("txt", 0.1)):
        deviation = (expected * (1 - expected) / 800) ** 0.5
        assert sum(lacking[extension]) / 800 == pytest.approx(expected, abs=4 * deviation)
    assert max(map(sum, zip(*lacking.values(), strict=True))) == 1
    assert all({"png", "flac", "txt"} < set(render(config, "val", index)) for index in range(6))


def test_mismatched_rows_have_captions_of_another_scene() -> None:
    config = SMALL.model_copy(update={"train": 500, "size": 16, "mismatched": 0.25})
    rows = [render(config, "train", index) for index in range(500)]
    flags = [json.loads(row["json"])["mismatched"] for row in rows]
    assert sum(flags) / 500 == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 500) ** 0.5)
    every = {"\n".join(captions(scene(config, "train", index))) for index in range(500)}
    for index, (row, mismatched) in enumerate(zip(rows, flags, strict=True)):
        own = "\n".join(captions(scene(config, "train", index)))
        assert (row["txt"] == own) != mismatched
        assert row["txt"] in every


def test_pictures_may_be_jpegs() -> None:
    config = SMALL.model_copy(update={"image_format": "jpg"})
    image = Image.open(io.BytesIO(render(config, "val", 0)["jpg"]))  # type: ignore[arg-type]
    assert image.format == "JPEG"
    difference = np.asarray(image, float) - np.asarray(picture(scene(config, "val", 0), 32), float)
    assert np.abs(difference).mean() < 8


def test_generating_imports_no_torch() -> None:
    code = "import sys, tercet.data_pipelines.builtin.dataset; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
