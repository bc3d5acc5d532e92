"""webdataset reads our shards, and tercet reads the layout of img2dataset."""

import json
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import ImageIntake, Sample, TextIntake
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.write import write_shard
from tercet.data_pipelines.stream.loader import StreamLoader
from tercet.data_pipelines.stream.reader import id_of
from tercet.data_pipelines.transforms.crop import CentreView

EVERY = ("jpg", "png", "flac", "txt", "json")
LONG = "one/of/many/folders/" * 8  # more than the hundred bytes of a header


def indexed(shards: Sequence[Path]) -> list[tuple[str, dict[str, bytes]]]:
    source = open_shards([str(path) for path in shards])
    files = source.read(range(len(source)), EVERY)
    return [(source.key(id), dict(own)) for id, own in enumerate(files) if not isinstance(own, Exception)]


def theirs(dataset: webdataset.WebDataset) -> list[tuple[str, dict[str, bytes]]]:
    return [(s["__key__"], {k: v for k, v in s.items() if not k.startswith("__")}) for s in dataset]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two shards of the generated dataset, in which some samples lack a modality."""
    config = WorldConfig(
        train=60, val=0, combinations=0, samples_per_shard=40, missing={"image": 0.2, "text": 0.1}, workers=1
    )
    return sorted((generate(config, tmp_path_factory.mktemp("world") / "w") / "train").glob("*.tar"))


@pytest.fixture
def written(tmp_path: Path, picture: Callable[..., bytes]) -> list[Path]:
    """Shards with short keys, long ones, and ones beyond ASCII."""
    paths = [tmp_path / f"{n:06d}.tar" for n in range(2)]
    for n, path in enumerate(paths):
        keys = (f"{n}{i:03d}" if i % 3 else f"{LONG}ünïcode-{n}{i:03d}" for i in range(20))
        write_shard(path, [{"__key__": key, "png": picture(i), "txt": f"caption {i}"} for i, key in enumerate(keys)])
    return paths


@pytest.mark.parametrize("shards", ["world", "written"])
def test_webdataset_reads_our_shards(shards: str, request: pytest.FixtureRequest) -> None:
    paths: list[Path] = request.getfixturevalue(shards)
    urls = [str(path) for path in paths]
    ours = indexed(paths)
    assert len(ours) == (60 if shards == "world" else 40)
    assert theirs(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)) == ours
    with pytest.warns(UserWarning, match="shardshuffle"):
        assert sorted(key for key, _ in theirs(webdataset.WebDataset(urls))) == sorted(key for key, _ in ours)


def test_webdataset_decodes_the_same_samples(world: list[Path]) -> None:
    """Pictures, captions and metadata; pixels equal those of Pillow."""
    source = open_shards([str(path) for path in world])
    intakes = {"image": ImageIntake((64, 64)), "text": TextIntake(lambda captions: torch.zeros(len(captions), 1))}
    decode = Decoder(source, intakes, SplitConfig(source=str(world[0])), exact_images=True)
    ours = decode(range(len(source)), [CentreView()] * len(source))
    decoded = webdataset.WebDataset([str(p) for p in world], shardshuffle=False, empty_check=False).decode("pil")
    for sample, other in zip(ours, decoded, strict=True):
        assert isinstance(sample, Sample)
        assert sample.key == other["__key__"]
        assert sample.text == tuple(other["txt"].splitlines() if "txt" in other else ())
        assert dict(sample.meta) == other["json"]
        assert (sample.image is None) == ("jpg" not in other)
        if sample.image is not None:
            assert np.array_equal(sample.image, np.asarray(other["jpg"]))


def img2dataset(
    folder: Path, sizes: Sequence[int], picture: Callable[..., bytes]
) -> list[tuple[str, dict[str, bytes]]]:
    """The output of its WebDatasetSampleWriter: webdataset's TarWriter, indented JSON, statistics of the shard."""
    samples = []
    for shard, size in enumerate(sizes):
        with webdataset.TarWriter(str(folder / f"{shard:05d}.tar")) as tar:
            for i in range(size):
                key, caption = f"{shard:05d}{2 * i:04d}", f"a caption of {shard} {i}"  # every other download failed
                meta = {"caption": caption, "url": f"https://host/{i}.jpg", "key": key, "status": "success"}
                meta |= {"error_message": None, "width": 20, "height": 16, "exif": "{}", "sha256": "0" * 64}
                own = {"jpg": picture(i, format="jpeg"), "txt": caption, "json": json.dumps(meta, indent=4)}
                tar.write({"__key__": key, **own})
                samples.append((key, {n: v if isinstance(v, bytes) else v.encode() for n, v in own.items()}))
        stats = {"count": 2 * size, "successes": size, "failed_to_download": size, "failed_to_resize": 0}
        stats |= {"duration": 1.0, "status_dict": {"success": size, "HTTP Error 404: Not Found": size}}
        (folder / f"{shard:05d}_stats.json").write_text(json.dumps(stats, indent=4))
        (folder / f"{shard:05d}.parquet").write_bytes(b"PAR1")
    return samples


def test_img2dataset_is_read_by_index_and_as_a_stream(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    samples = img2dataset(tmp_path, (12, 9), picture)
    assert indexed(sorted(tmp_path.glob("*.tar"))) == samples
    data = DataConfig.model_validate({"train": str(tmp_path), "workers": 0, "crop": None})
    intakes = {"image": ImageIntake((8, 8)), "text": TextIntake(lambda captions: torch.zeros(len(captions), 1))}
    stream = StreamLoader(data, intakes, 7, seed=0, shuffled=0)
    ids = {id for batch in islice(stream, 3) for id in batch.ids.tolist()}
    assert ids == {id_of(f"{key[:5]}.tar", key) for key, _ in samples}
    assert not stream.bad


def test_pictures_encoded_by_webdataset_are_read(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    """Written by ShardWriter, which encodes the pixels."""
    pixels = np.asarray(Image.open(BytesIO(picture(3))))
    with webdataset.ShardWriter(str(tmp_path / "%06d.tar"), maxcount=4, verbose=0) as shards:
        for i in range(10):
            shards.write({"__key__": f"{i}", "png": pixels, "txt": f"caption {i}", "json": {"group": i}})
    source = open_shards(str(tmp_path))
    assert source.counts.tolist() == [4, 4, 2]
    decode = Decoder(source, {"image": ImageIntake(pixels.shape[:2])}, SplitConfig(source=""), exact_images=True)
    for i, sample in enumerate(decode(range(10), [CentreView()] * 10)):
        assert isinstance(sample, Sample)
        assert (sample.key, sample.group) == (str(i), i)
        assert np.array_equal(sample.image, pixels)
