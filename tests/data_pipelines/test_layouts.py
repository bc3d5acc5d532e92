"""Shards in the layouts of several writers, read through the public functions."""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import webdataset
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import AudioIntake, ImageIntake, Intake, Sample, TextIntake
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.write import write_shard
from tercet.data_pipelines.transforms.crop import CentreView

SIZE, RATE = 32, 8000
TEXT = TextIntake(lambda captions: torch.zeros(len(captions), 1, dtype=torch.int64))
EVERY: Mapping[str, Intake] = {"image": ImageIntake((SIZE, SIZE)), "audio": AudioIntake(RATE, 1.0), "text": TEXT}


def read(folder: Path, *names: str, **config: object) -> list[Sample | BadSample]:
    source = open_shards(str(folder))
    split = SplitConfig.model_validate({"source": str(folder), **config})
    decode = Decoder(source, {name: EVERY[name] for name in names}, split, exact_images=True)
    ids = range(len(source))
    return decode(ids, [CentreView() for _ in ids])


def good(samples: list[Sample | BadSample]) -> list[Sample]:
    assert all(isinstance(sample, Sample) for sample in samples)
    return [sample for sample in samples if isinstance(sample, Sample)]


def picture(seed: int, format: str) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize((SIZE, SIZE)).save(file, format)
    return file.getvalue()


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def sound(seed: int) -> bytes:
    file = BytesIO()
    soundfile.write(file, np.random.default_rng(seed).uniform(-0.5, 0.5, 4000), RATE, format="FLAC")
    return file.getvalue()


# --- img2dataset: 00000.tar of jpg, txt and json, with 00000_stats.json and 00000.parquet beside


CAPTIONS = ["A caf&eacute; in Paris", "two\tdogs", "", "Zwei Hunde", None]


def downloaded(shard: int, place: int, caption: str | None) -> tuple[dict[str, object], dict[str, object]]:
    key = f"{shard:05d}{place:04d}"
    meta: dict[str, object] = {
        "caption": caption,
        "url": f"https://example.org/{key}.jpg?w=400",
        "key": key,
        "status": "success",
        "error_message": None,
        "width": SIZE,
        "height": SIZE,
        "original_width": 640,
        "original_height": 480,
        "exif": json.dumps({"Image Orientation": "Rotated 90 CW", "Image Software": "Gïmp"}),
        "sha256": f"{place:064x}",
    }
    files: dict[str, object] = {"__key__": key, "jpg": picture(place, "JPEG"), "json": json.dumps(meta, indent=4)}
    files["txt"] = str(caption) if caption is not None else ""
    return meta, files


@pytest.fixture
def img2dataset(tmp_path: Path) -> Path:
    for shard in (0, 1):
        rows = [downloaded(shard, place, caption) for place, caption in enumerate(CAPTIONS)]
        with webdataset.TarWriter(str(tmp_path / f"{shard:05d}.tar")) as tar:
            for _, files in rows:
                tar.write(dict(files))
        stats = {"count": 7, "successes": 5, "failed_to_download": 2, "failed_to_resize": 0, "duration": 1.5}
        stats |= {"status_dict": {"success": 5, "HTTP Error 404: Not Found": 2}}
        (tmp_path / f"{shard:05d}_stats.json").write_text(json.dumps(stats, indent=4))
        pq.write_table(pa.Table.from_pylist([meta for meta, _ in rows]), tmp_path / f"{shard:05d}.parquet")
    return tmp_path


def test_img2dataset_layout(img2dataset: Path) -> None:
    samples = read(img2dataset, "image", "audio", "text")
    assert [sample.reason for sample in samples if isinstance(sample, BadSample)] == ["text: empty"] * 4
    expected = [(shard, place) for shard in (0, 1) for place in range(5) if CAPTIONS[place]]
    for (shard, place), sample in zip(expected, (one for one in samples if isinstance(one, Sample)), strict=True):
        meta, files = downloaded(shard, place, CAPTIONS[place])
        assert (sample.key, sample.id) == (meta["key"], 5 * shard + place)
        assert sample.text == {0: ("A café in Paris",), 1: ("two dogs",), 3: ("Zwei Hunde",)}[place]
        assert sample.meta == meta
        assert (sample.group, sample.audio) == (-1 - sample.id, None)
        assert sample.image is not None
        assert np.array_equal(sample.image, pixels_of(bytes(files["jpg"])))  # type: ignore[call-overload]


def test_img2dataset_without_its_captions_or_grouped_by_its_keys(img2dataset: Path) -> None:
    assert [sample.text for sample in good(read(img2dataset, "image"))] == [()] * 10
    by_hash = [sample.group for sample in good(read(img2dataset, "image", group="json.sha256"))]
    by_pixels = [sample.group for sample in good(read(img2dataset, "image", group="image"))]
    assert by_hash[:5] == by_hash[5:]
    assert by_pixels[:5] == by_pixels[5:]
    assert len(set(by_hash)) == len(set(by_pixels)) == 5


def test_img2dataset_with_rewritten_captions_in_json(img2dataset: Path) -> None:
    captions = {"json.exif_caption": 1.0, "json.caption": 1.0}
    samples = read(img2dataset, "text", captions=captions)
    assert [one.reason if isinstance(one, BadSample) else one.text[0] for one in samples[:5]] == [
        "A café in Paris",
        "two dogs",
        "text: empty",
        "Zwei Hunde",
        "none of the run's modalities",
    ]


# --- LAION-CLAP: 0.tar of flac and json, whose `text` is a list; sizes.json beside

CLIPS: list[dict[str, object]] = [
    {"text": ["a dog barks", "barking &amp; growling"], "tag": ["dog", "animal"], "original_data": {"title": "17"}},
    {"text": ["wind"], "tag": [], "original_data": {}},
    {"text": "one string of an older set", "tag": None},
]


def test_laion_clap_layout(tmp_path: Path) -> None:
    for shard in (0, 1):
        with webdataset.TarWriter(str(tmp_path / f"{shard}.tar")) as tar:
            for place, meta in enumerate(CLIPS):
                tar.write({"__key__": f"{place + 1:06d}", "flac": sound(10 * shard + place), "json": json.dumps(meta)})
    (tmp_path / "sizes.json").write_text(json.dumps({"0.tar": 3, "1.tar": 3}))
    samples = good(read(tmp_path, "image", "audio", "text"))
    assert [sample.key for sample in samples] == ["000001", "000002", "000003"] * 2
    captions = [("a dog barks", "barking & growling"), ("wind",), ("one string of an older set",)]
    for place, sample in enumerate(samples):
        shard, row = divmod(place, 3)
        assert sample.text == captions[row]
        assert sample.meta == CLIPS[row]
        assert (sample.id, sample.group, sample.image) == (place, -1 - place, None)
        wave, _ = soundfile.read(BytesIO(sound(10 * shard + row)), dtype="float32")
        assert sample.audio is not None
        assert np.allclose(sample.audio, wave, atol=1e-6)


# --- ours: every modality, a line for each caption, group and negatives


def test_our_own_layout(tmp_path: Path) -> None:
    metas: list[dict[str, object]] = [
        {"group": 5, "negatives": [{"kind": "swap", "text": "a blue circle"}]},
        {"group": "five", "negatives": []},
        {},
    ]
    written: list[dict[str, str | bytes]] = [
        {
            "__key__": f"scene/{place}",
            "png": picture(place, "PNG"),
            "flac": sound(place),
            "txt": f"a red circle\nein roter Kreis {place}\n",
            "json": json.dumps(meta),
        }
        for place, meta in enumerate(metas)
    ]
    del written[1]["flac"], written[2]["png"]
    write_shard(tmp_path / "000000.tar", written)
    samples = good(read(tmp_path, "image", "audio", "text"))
    for place, (sample, files, meta) in enumerate(zip(samples, written, metas, strict=True)):
        assert (sample.key, sample.id, sample.meta) == (files["__key__"], place, meta)
        assert sample.text == ("a red circle", f"ein roter Kreis {place}")
        assert (sample.audio is None, sample.image is None) == (place == 1, place == 2)
        if sample.image is not None:
            assert np.array_equal(sample.image, pixels_of(bytes(files["png"])))  # type: ignore[arg-type]
    assert samples[0].group == 5
    assert 5 != samples[1].group >= 0
    assert samples[2].group == -3
