"""JPEG has its own decoder, which decodes a smaller picture if the crop allows it."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import MOST_PIXELS
from tercet.data_pipelines.decode.image import SPARE, _span, decode_image
from tercet.data_pipelines.decode.jpeg import Jpeg, exif_of, opened_jpeg
from tercet.data_pipelines.sample import ImageIntake
from tercet.data_pipelines.transforms.crop import Box, CentreView, largest_box

SIDE = 32
INTAKE = ImageIntake((SIDE, SIDE))
ORIENTATION = 0x0112


class Window(NamedTuple):
    """A view of a given share of the picture."""

    left: float = 0.0
    upper: float = 0.0
    share: float = 1.0
    centred: bool = False

    def box(self, picture: tuple[int, int], size: tuple[int, int]) -> Box:
        width, height = (side * self.share for side in largest_box(picture, size[0] / size[1]))
        left, upper = self.left * (picture[0] - width), self.upper * (picture[1] - height)
        return left, upper, left + width, upper + height

    paper, span, captions = CentreView.paper, CentreView.span, CentreView.captions


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with fine waves, so that every scale has content."""
    colour = np.random.default_rng(seed).integers(40, 216, (5, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(colour).resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    wave = 8 * np.sin(np.arange(width) / 5)[None, :] * np.cos(np.arange(height) / 7)[:, None]
    return Image.fromarray(np.clip(smooth + wave[..., None], 0, 255).astype(np.uint8))


def saved(image: Image.Image, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, "jpeg", **{"quality": 92, **options})
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.fixture
def reductions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records by which factor pictures were reduced when decoded."""
    asked: list[int] = []
    decode: Callable[[Jpeg, int], NDArray[np.uint8]] = Jpeg.pixels
    monkeypatch.setattr(Jpeg, "pixels", lambda jpeg, reduction: asked.append(reduction) or decode(jpeg, reduction))
    return asked


@pytest.mark.parametrize(("share", "reduction"), [(1.0, 8), (0.9, 4), (0.4, 2), (0.26, 2), (0.24, 1)])
def test_the_crop_decides_how_small_a_picture_is_decoded(reductions: list[int], share: float, reduction: int) -> None:
    data = saved(scene(int(8 * SPARE * SIDE) + 30, int(8 * SPARE * SIDE)))
    decode_image(data, INTAKE, Window(share=share))
    assert reductions == [reduction]


@given(
    size=st.tuples(st.integers(64, 500), st.integers(64, 500)),
    window=st.builds(Window, st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 1)),
    orientation=st.integers(1, 8),
)
def test_any_crop_of_any_picture_equals_pillow(size: tuple[int, int], window: Window, orientation: int) -> None:
    """Beside the picture decoded whole, turned upright by Pillow, cut and resampled by it. A crop may come to lie half
    a pixel of what was decoded away from where it was drawn, which the tolerance allows for: a wrong turn makes 25."""
    data = saved(scene(*size), exif=turned(orientation))
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    box = window.box(upright.size, (SIDE, SIDE))
    reference = np.asarray(upright.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    assert difference(decode_image(data, INTAKE, window), reference) < 8
    assert difference(decode_image(data, INTAKE, window, exact=True), reference) < 8
    assert difference(decode_image(data, INTAKE, window), decode_image(data, INTAKE, window, exact=True)) < 1.5


@given(st.floats(0, 1000), st.floats(1, 1000), st.integers(1, 1000), st.sampled_from([1, 2, 4, 8]))
def test_a_crop_moves_by_at_most_half_a_pixel_of_what_is_decoded(
    start: float, count: float, room: int, reduction: int
) -> None:
    length = math.ceil(start + count) + room * reduction
    first, last = _span(start, start + max(count, reduction), length, reduction)
    assert 0 <= first < last <= length // reduction
    assert abs(first * reduction - start) <= reduction / 2
    assert abs((last - first) * reduction - max(count, reduction)) <= reduction / 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(60, 40), (400, 300)])
def test_every_exif_orientation_is_applied(orientation: int, size: tuple[int, int]) -> None:
    """A crop of the lower right of the upright picture, on whole pixels at every reduction."""
    data, window = saved(scene(*size), exif=turned(orientation)), Window(1.0, 1.0, 0.8)
    upright = saved(ImageOps.exif_transpose(Image.open(BytesIO(data))), quality=100, subsampling=0)
    assert difference(decode_image(data, INTAKE, window), decode_image(upright, INTAKE, window)) < 2.5


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 2}])
def test_every_kind_of_jpeg_is_decoded(mode: str, options: dict[str, object]) -> None:
    data = saved(scene(300, 260).convert(mode), **options)
    box = CentreView().box((300, 260), (SIDE, SIDE))
    reference = Image.open(BytesIO(data)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    assert difference(decode_image(data, INTAKE, CentreView()), np.asarray(reference)) < 1
    assert decode_image(data, INTAKE, CentreView()).shape == (SIDE, SIDE, 3)


def test_stray_bytes_are_ignored_and_missing_bytes_make_the_sample_bad() -> None:
    data = saved(scene(400, 400), restart_marker_rows=1)
    marker = data.index(b"\xff\xd0", 600)
    stray = data[:marker] + bytes(7) + data[marker:]
    assert np.array_equal(decode_image(stray, INTAKE, CentreView()), decode_image(data, INTAKE, CentreView()))
    with pytest.raises(BadSample, match="image: truncated or damaged"):
        decode_image(data[: len(data) // 2], INTAKE, CentreView())


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    data = bytearray(saved(scene(16, 16)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (8192).to_bytes(2, "big") + (MOST_PIXELS // 8192 + 1).to_bytes(2, "big")
    with pytest.raises(BadSample, match="image: too many pixels"):
        decode_image(bytes(data), INTAKE, CentreView())


def test_exif_is_found_where_pillow_finds_it() -> None:
    exif = turned(6)
    exif[0x010E] = "a" * 3000
    for options in ({}, {"icc_profile": bytes(70_000)}, {"comment": b"Exif\0\0 is no block here"}):
        data = saved(scene(16, 16), exif=exif, **options)
        assert exif_of(data) == Image.open(BytesIO(data)).info["exif"]
    assert exif_of(saved(scene(16, 16), comment=b"Exif\0\0")) == b""


@pytest.mark.filterwarnings("ignore:.*EXIF data")
@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0no tiff at all", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"],
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    plain, broken = saved(scene(40, 30)), saved(scene(40, 30), exif=exif)
    assert exif_of(broken) == exif
    assert np.array_equal(decode_image(broken, INTAKE, CentreView()), decode_image(plain, INTAKE, CentreView()))


@given(st.binary(max_size=64), st.integers(0, 200))
def test_garbage_after_the_magic_number_is_a_bad_sample(garbage: bytes, kept: int) -> None:
    with pytest.raises(BadSample):
        decode_image(saved(scene(8, 8))[: 2 + kept] + garbage, INTAKE, CentreView())


def test_headers_are_parsed_like_in_pillow() -> None:
    for size in ((1, 1), (17, 9), (333, 8)):
        data = saved(scene(*size))
        opened = opened_jpeg(data)
        assert opened
        assert opened.size == Image.open(BytesIO(data)).size
    assert opened_jpeg(b"\x89PNG\r\n\x1a\n") is None


def test_threads_decode_the_same_pixels() -> None:
    files = [saved(scene(300 + seed, 280, seed)) for seed in range(8)] * 4
    alone = [decode_image(data, INTAKE, Window(0.3, 0.6, 0.9)) for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: decode_image(data, INTAKE, Window(0.3, 0.6, 0.9)), files))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
