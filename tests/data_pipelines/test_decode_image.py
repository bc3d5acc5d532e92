import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from zlib import crc32

import numpy as np
import pytest
from PIL import Image, features
from torchvision.transforms import v2

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import MOST_PIXELS
from tercet.data_pipelines.decode.image import decode_image
from tercet.data_pipelines.decode.media import verify_picture
from tercet.data_pipelines.sample import ImageIntake
from tercet.data_pipelines.transforms.crop import CentreView, RandomView, random_views

Picture = Callable[..., bytes]
OTHERS = ["gif", "bmp", "tiff", *(["avif"] if features.check("avif") else [])]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def random_view(epoch: int, area: tuple[float, float]) -> RandomView:
    return random_views("train", 1, [epoch], [5], area)[0]


def saved(image: Image.Image, format: str = "png", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", *OTHERS])
def test_a_picture_of_the_right_size_is_unchanged(picture: Picture, format: str) -> None:
    data = picture(0, (24, 24), format)
    assert np.array_equal(decode_image(data, ImageIntake((24, 24)), CentreView()), pixels(data))


@pytest.mark.parametrize("size", [(300, 200), (90, 131), (64, 64), (40, 301), (1, 500)])
@pytest.mark.parametrize("wanted", [64, 33])
def test_evaluation_equals_torchvision(picture: Picture, size: tuple[int, int], wanted: int) -> None:
    """Shortest side to the size, centre crop: the transform that open_clip evaluates with. Pillow begins with the axis
    that is the cheaper one, and what it rounds in between depends on it."""
    data = picture(1, size)
    resize = v2.Resize(wanted, v2.InterpolationMode.BICUBIC)
    reference = np.asarray(v2.Compose([resize, v2.CenterCrop(wanted)])(Image.open(BytesIO(data))))
    for exact in (True, False):
        seen = decode_image(data, ImageIntake((wanted, wanted)), CentreView(), exact)
        assert np.abs(seen.astype(int) - reference).max() <= 2


def test_a_training_crop_is_cropped_and_resized(picture: Picture) -> None:
    class Fixed(CentreView):
        centred = False

        def box(self, picture: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
            return 10, 5, 60, 45

    data = picture(2, (80, 50))
    expected = Image.open(BytesIO(data)).crop((10, 5, 60, 45)).resize((25, 20), Image.Resampling.BICUBIC)
    ours = decode_image(data, ImageIntake((20, 25)), Fixed())
    inner = np.s_[3:-3, 3:-3]  # a resized box may look a little beyond its edges, a cut one cannot
    assert np.abs(ours[inner].astype(int) - np.asarray(expected)[inner]).max() <= 1


@pytest.mark.parametrize("size", [(300, 200), (40, 90)])
def test_squash_resizes_the_whole_picture_to_the_size(picture: Picture, size: tuple[int, int]) -> None:
    data = picture(5, size)
    expected = Image.open(BytesIO(data)).convert("RGB").resize((64, 48), Image.Resampling.BICUBIC)
    intake = ImageIntake((48, 64), resize="squash")
    assert np.array_equal(decode_image(data, intake, CentreView(), exact=True), np.asarray(expected))
    fast = decode_image(data, intake, CentreView()).astype(int)
    assert np.abs(fast - np.asarray(expected)).max() <= 1


def test_a_squashed_training_crop_keeps_the_shape_of_the_picture(picture: Picture) -> None:
    """A crop of the whole picture equals the view of evaluation, whatever the shape of the picture."""
    data, intake = picture(6, (200, 50)), ImageIntake((32, 32), resize="squash")
    whole = decode_image(data, intake, random_view(0, (1.0, 1.0))).astype(int)
    assert np.abs(whole - decode_image(data, intake, CentreView())).max() <= 1


def test_transparent_parts_become_white_and_grey_keeps_its_range(picture: Picture) -> None:
    red_half = saved(Image.new("RGBA", (8, 8), (255, 0, 0, 128)))
    assert decode_image(red_half, ImageIntake((8, 8)), CentreView())[0, 0].tolist() == [255, 127, 127]
    palette = saved(Image.new("RGBA", (8, 8), (0, 0, 255, 0)).quantize())
    assert decode_image(palette, ImageIntake((8, 8)), CentreView())[0, 0].tolist() == [255, 255, 255]
    keyed = saved(Image.new("RGB", (8, 8), (0, 0, 255)), transparency=(0, 0, 255))
    assert decode_image(keyed, ImageIntake((8, 8)), CentreView())[0, 0].tolist() == [255, 255, 255]
    deep = saved(Image.fromarray(np.full((8, 8), 0x80FF, dtype=np.uint16)))
    assert decode_image(deep, ImageIntake((8, 8)), CentreView())[0, 0].tolist() == [128, 128, 128]


def test_exif_orientation_is_applied() -> None:
    sideways = Image.new("RGB", (20, 10), "black")
    sideways.paste("white", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise: what is left comes to the top
    upright = decode_image(saved(sideways, "jpeg", exif=exif, quality=95), ImageIntake((20, 10)), CentreView())
    assert upright[2].min() > 240
    assert upright[-3].max() < 15


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", *OTHERS])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_picture_is_bad(picture: Picture, format: str, share: float) -> None:
    data = picture(3, (200, 200), format)
    with pytest.raises(BadSample, match=r"image: (truncated|not a)"):
        decode_image(data[: int(share * len(data))], ImageIntake((32, 32)), CentreView())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image: not a known format"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image: truncated or damaged"),
        (b"hello", "image: not a known format"),
        (saved(Image.new("RGB", (4, 4)), "ppm"), "image: not a known format"),
        (saved(Image.new("RGB", (4, 4)), "pdf"), "image: not a known format"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "image: SVG, .* convert it to PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image: HEIC, .* convert it to JPEG"),
    ],
)
def test_other_formats_are_bad(data: bytes, reason: str) -> None:
    with pytest.raises(BadSample, match=reason):
        decode_image(data, ImageIntake((4, 4)), CentreView())


@pytest.mark.parametrize("format", ["gif", "webp", "png", "tiff", "avif"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    lossless = {"webp": {"lossless": True}, "avif": {"quality": 100, "subsampling": "4:4:4"}}.get(format, {})
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], **lossless)
    seen = decode_image(data, ImageIntake((8, 8)), CentreView()).astype(int)
    assert np.abs(seen - [255, 0, 0]).max() <= 2


RAMP = np.linspace(0, 1, 64).reshape(8, 8)
GREYS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "16 bits": ((RAMP * 65535).astype(np.uint16), RAMP * 255),
    "16 bits, the other end first": ((RAMP * 65535).astype(">u2"), RAMP * 255),
    "32 bits": ((RAMP * 2**31).clip(0, 2**31 - 1).astype(np.int32), RAMP * 255),
    "floats from 0 to 1": (RAMP.astype(np.float32) / 2, RAMP * 127.5),
    "other floats": (RAMP.astype(np.float32) * 900 - 300, RAMP * 255),
    "floats without numbers": (
        np.where(RAMP == 1, np.nan, RAMP).astype(np.float32),
        np.where(RAMP == 1, 0, RAMP * 255),
    ),
}


@pytest.mark.parametrize("name", GREYS)
def test_grey_of_more_than_8_bits_keeps_its_range(name: str) -> None:
    values, expected = GREYS[name]
    mode = {"u": "I;16B" if values.dtype.byteorder == ">" else "I;16", "i": "I", "f": "F"}[values.dtype.kind]
    data = saved(Image.frombytes(mode, (8, 8), values.tobytes()), "tiff")
    seen = decode_image(data, ImageIntake((8, 8)), CentreView())
    assert np.abs(seen[..., 0] - expected).max() <= 1.01


def test_the_orientation_of_a_tiff_is_applied_once() -> None:
    sideways = Image.new("RGB", (20, 10), "black")
    sideways.paste("white", (0, 0, 10, 10))
    upright = decode_image(saved(sideways, "tiff", tiffinfo={274: 6}), ImageIntake((20, 10)), CentreView())
    assert (upright[:10].min(), upright[10:].max()) == (255, 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format", OTHERS)
def test_any_damage_is_a_bad_sample(picture: Picture, format: str) -> None:
    """Changes random bytes, most of them in the header, which Pillow parses itself."""
    whole, dice, read = picture(7, (40, 30), format), np.random.default_rng(0), 0
    for _ in range(150):
        data = bytearray(whole)
        for place in dice.integers(0, min(len(data), 400), 3):
            data[place] = dice.integers(256)
        with suppress(BadSample):
            verify_picture(bytes(data))
        with suppress(BadSample):
            read += decode_image(bytes(data), ImageIntake((8, 8)), CentreView()).shape == (8, 8, 3)
    assert read < 150, "some damage is beyond repair"


LARGE = """
import io, struct
from PIL import Image, features
from tercet.data_pipelines.decode.media import open_picture
file = io.BytesIO()
Image.new("L", (8, 8)).save(file, "bmp")
data = bytearray(file.getvalue())
data[18:26] = struct.pack("<ii", 10_000, 10_000)
try:
    open_picture(bytes(data))
except Exception as error:
    print(error)
"""


def test_only_our_pixel_limit_reports_large_pictures() -> None:
    """Without our limit, Pillow would print a warning."""
    done = subprocess.run([sys.executable, "-W", "always", "-c", LARGE], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), "Bomb" in done.stderr) == ("image: too many pixels", False)


@pytest.mark.parametrize("side", [MOST_PIXELS // 8192 + 1, 2**20])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    """The header claims many pixels, but there is no payload: nothing may be decoded."""
    data = bytearray(saved(Image.new("RGB", (8, 8))))
    data[16:24] = (8192).to_bytes(4, "big") + side.to_bytes(4, "big")
    data[29:33] = crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(BadSample, match="image: too many pixels"):
        decode_image(bytes(data), ImageIntake((8, 8)), CentreView())


def test_training_views_repeat_by_key_and_vary_over_epochs(picture: Picture) -> None:
    data = picture(4, (64, 48))
    first, again, later = (
        decode_image(data, ImageIntake((16, 16)), random_view(epoch, (0.3, 1.0))) for epoch in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)
