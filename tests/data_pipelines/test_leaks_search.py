"""`tercet data leaks` finds planted leaks."""

import json
from io import BytesIO
from pathlib import Path

import pytest
import soundfile
from PIL import Image

from tercet.command import main
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.render import render_shard
from tercet.data_pipelines.shards.write import write_shard

Files = dict[str, str | bytes]


def scenes(split: str, count: int, seed: int) -> list[Files]:
    config = WorldConfig(seed=seed, train=count, val=count, combinations=0, seconds=2.0, samples_per_shard=count)
    return [
        {**dict(files), "__key__": f"{split}-{n}", "txt": f"{split} caption {n}", "json": "{}"}
        for n, files in enumerate(render_shard(config, split, 0))  # type: ignore[arg-type]
    ]


def smaller(data: bytes) -> bytes:
    file = BytesIO()
    Image.open(BytesIO(data)).resize((48, 48)).save(file, "JPEG", quality=80)
    return file.getvalue()


def vorbis(data: bytes) -> bytes:
    wave, rate = soundfile.read(BytesIO(data), dtype="float32")
    file = BytesIO()
    soundfile.write(file, 0.5 * wave, rate, format="OGG", subtype="VORBIS")
    return file.getvalue()


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Path, set[tuple[str, str, str, str, str]]]:
    """40 training samples in two shards, 30 validation samples in another, and the leaks between them."""
    train, evaluation = scenes("train", 40, 1), scenes("val", 30, 2)
    evaluation[3]["jpg"] = train[7]["jpg"]
    evaluation[4]["jpg"] = smaller(bytes(train[31]["jpg"]))
    evaluation[4]["flac"] = train[2]["flac"]
    del evaluation[9]["flac"]
    evaluation[9]["ogg"] = vorbis(bytes(train[25]["flac"]))
    evaluation[12]["txt"] = "another one\nTRAIN caption: 30!"
    evaluation[20]["jpg"] = b"no picture"
    for n in range(2):
        write_shard(tmp_path / "train" / f"{n}.tar", train[20 * n : 20 * n + 20])
    write_shard(tmp_path / "val" / "0.tar", evaluation)
    leaks = {
        ("image: same file", "0.tar", "train-7", "0.tar", "val-3"),
        ("image: looks the same", "1.tar", "train-31", "0.tar", "val-4"),
        ("audio: same file", "0.tar", "train-2", "0.tar", "val-4"),
        ("audio: sounds the same", "1.tar", "train-25", "0.tar", "val-9"),
        ("text: same caption", "1.tar", "train-30", "0.tar", "val-12"),
    }
    return tmp_path / "train", tmp_path / "val", leaks


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / name).mkdir()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_only_planted_leaks_are_found(
    planted: tuple[Path, Path, set[tuple[str, ...]]],
    workers: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train, evaluation, leaks = planted
    out = tmp_path / "leaks.jsonl"
    command = ["data", "leaks", str(train), str(evaluation), "--out", str(out), "--workers", workers, "--json"]
    assert main(command) == 1
    found = [
        (
            each["kind"],
            Path(each["train_shard"]).name,
            each["train_key"],
            Path(each["eval_shard"]).name,
            each["eval_key"],
        )
        for each in map(json.loads, out.read_text().splitlines())
    ]
    assert len(found) == len(leaks)
    assert set(found) == leaks
    assert json.loads(capsys.readouterr().out) == {
        "samples": {"train": 40, "eval": 30},
        "bad": {"image: not a known format": 1},
        "leaks": {kind: {"pairs": 1, "eval_samples": 1} for kind, *_ in leaks},
        "clean": False,
    }


def test_the_verdict_counts_each_picture_and_sound_that_leaks_once(
    planted: tuple[Path, Path, set[tuple[str, ...]]], capsys: pytest.CaptureFixture[str]
) -> None:
    train, evaluation, _ = planted
    assert main(["data", "leaks", str(train), str(evaluation), "--workers", "1"]) == 1
    shown = capsys.readouterr().out
    assert "pictures or sounds of 3 of 30 evaluation samples among 40 training samples" in shown


def test_equal_captions_alone_are_not_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If several samples have the same caption, the first evaluation sample with it is named."""
    captions = [{"__key__": f"{n}", "txt": "a dog"} for n in range(3)]
    write_shard(tmp_path / "train" / "0.tar", captions)
    write_shard(tmp_path / "val" / "0.tar", captions)
    assert main(["data", "leaks", str(tmp_path / "train"), str(tmp_path / "val"), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "text: same caption" in shown
    assert "no picture and no sound of 3 evaluation samples among 3 training samples" in shown
