"""Every file format: read from folders and shards, packed, or refused with a command that converts it."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tercet.command import main
from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.manifests.source import say_once
from tercet.data_pipelines.pack.config import PackConfig
from tercet.data_pipelines.pack.picture import pack_picture
from tercet.data_pipelines.sample import AudioIntake, ImageIntake, Sample
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.modality import FILES
from tests.data_pipelines.listed import config, opened

Picture = Callable[..., bytes]
Sound = Callable[..., bytes]
FORMATS = {"jpg": "jpeg", "tif": "tiff"}


@pytest.fixture
def everything(tmp_path: Path, picture: Picture, sound: Sound) -> Path:
    """A picture or a sound with every supported extension, and some unsupported files."""
    folder = tmp_path / "files"
    folder.mkdir()
    for extension in FILES["image"]:
        if extension != "avif" or features.check("avif"):
            data = picture(1, (24, 24), FORMATS.get(extension, extension))
            (folder / f"{extension}.{extension}").write_bytes(data)
    for extension in FILES["audio"]:
        format = {"opus": "OGG", "aif": "AIFF", "aifc": "AIFF"}.get(extension, extension.upper())
        wave = 0.4 * np.sin(np.arange(8000) / 9)
        data = sound(wave, 8000, format, "OPUS" if extension == "opus" else None)
        (folder / f"{extension}.{extension}").write_bytes(data)
    for name in ("a.m4a", "b.m4a", "c.svg", "d.HEIC", "e.pdf"):
        (folder / name).write_bytes(b"x")
    return folder


def samples_of(path: Path) -> dict[str, Sample]:
    source, split = opened(source=str(path)), config(source=str(path)).train["train"]
    decode = Decoder(source, {"image": ImageIntake((24, 24)), "audio": AudioIntake(8000, 1.0)}, split)
    found = decode(range(len(source)), [CentreView()] * len(source))
    assert not [one for one in found if isinstance(one, BadSample)]
    return {sample.key: sample for sample in found if isinstance(sample, Sample)}


def test_every_format_is_read_from_a_folder_and_from_shards(everything: Path, tmp_path: Path) -> None:
    count = len(list(everything.iterdir())) - 5
    from_folder = samples_of(everything)
    assert len(from_folder) == count
    assert main(["data", "pack", str(everything), "--out", str(tmp_path / "shards"), "--workers", "1"]) == 0
    from_shards = samples_of(tmp_path / "shards")
    assert from_folder.keys() == from_shards.keys()
    for key, sample in from_folder.items():
        assert sample.media.keys() == from_shards[key].media.keys()
        for modality, media in sample.media.items():
            assert np.array_equal(media, from_shards[key].media[modality])
    whole = from_folder["png"].image
    assert whole is not None
    for extension in ("bmp", "tif", "tiff"):
        assert np.array_equal(from_folder[extension].image, whole)
    wave = from_folder["wav"].audio
    for extension in ("aif", "aiff", "flac"):
        assert np.allclose(from_folder[extension].audio, wave, atol=1e-3)
    assert main(["data", "check", str(tmp_path / "shards"), "--workers", "1"]) == 0
    assert main(["data", "stats", str(everything), "--workers", "1"]) == 0


def test_unsupported_files_are_named_with_a_command_that_converts_them(
    everything: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say_once.cache_clear()
    opened(source=str(everything))
    message = capsys.readouterr().err
    assert "files that are not part of a sample: 2 × .m4a, 1 × .svg, 1 × .HEIC, 1 × .pdf" in message
    for line in (
        ".m4a files are not read; convert them first: ffmpeg -i in.m4a out.flac",
        ".svg files are not read; convert them first: rsvg-convert in.svg -o out.png",
        ".heic files are not read; convert them first: heif-convert in.heic out.jpg",
    ):
        assert line in message
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.m4a").write_bytes(b"x")
    assert main(["data", "check", str(tmp_path / "sounds")]) == 2
    assert "contains no samples" in (message := capsys.readouterr().err)
    assert "convert them first: ffmpeg -i in.m4a out.flac" in message


@pytest.mark.parametrize(
    ("format", "kept"), [("gif", "png"), ("bmp", "png"), ("tiff", "png"), ("avif", "webp"), ("webp", "webp")]
)
def test_a_smaller_picture_is_saved_in_a_common_format(picture: Picture, format: str, kept: str) -> None:
    if format == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = picture(2, (80, 60), format)
    extension, smaller = pack_picture(data, PackConfig(size=30))
    expected = Image.open(BytesIO(data)).convert("RGB").resize((40, 30), Image.Resampling.BICUBIC)
    found = np.asarray(Image.open(BytesIO(smaller)).convert("RGB"), dtype=int)
    assert extension == kept
    assert np.abs(found - np.asarray(expected)).mean() < 5  # WEBP keeps half the resolution of colours


def test_a_very_long_caption_is_reported(tmp_path: Path, picture: Picture, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    (tmp_path / "a.txt").write_text("word " * 10_000)
    assert main(["data", "check", str(tmp_path), "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["bad"], found["notes"]) == (0, {"text: longer than 16,384 characters, and cut there": 1})
