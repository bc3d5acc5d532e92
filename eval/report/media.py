"""Pictures and sounds small enough to embed in a page: WebP, MP3, and the spectrograms of sounds."""

import io
from base64 import b64encode
from itertools import pairwise

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 128  # pixels of a gallery picture's longer side
SECONDS = 10.0  # of a sound
BANDS = 64  # of a spectrogram
FLOOR = 1e-5  # power below which a spectrogram is dark
# The colours of a spectrogram from quiet to loud, evenly spaced.
SHADES = np.array([(18, 16, 44), (75, 32, 110), (160, 50, 110), (230, 95, 75), (253, 180, 95), (252, 245, 190)])


def webp(image_HWC: NDArray[np.uint8]) -> bytes:
    """A picture, scaled down to its size in the gallery."""
    picture = Image.fromarray(image_HWC)
    picture.thumbnail((SIDE, SIDE))
    return _webp(picture)


def mp3(audio_T: NDArray[np.float32], rate: int) -> bytes:
    """The first seconds of a waveform."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio_T[: int(rate * SECONDS)], rate, format="MP3")
    return buffer.getvalue()


def spectrogram(audio_T: NDArray[np.float32], rate: int) -> bytes:
    """Loudness over time and logarithmic frequency, twice as wide as high."""
    size = 1024
    heard_T = torch.from_numpy(audio_T[: int(rate * SECONDS)])
    window = torch.hann_window(size)
    power = torch.stft(heard_T, size, size // 4, window=window, pad_mode="constant", return_complex=True)
    edges = torch.logspace(np.log10(2), np.log10(size // 2), BANDS + 1).long()
    spectrum = power.abs().square()
    bands = torch.stack([spectrum[a : max(b, a + 1)].mean(dim=0) for a, b in pairwise(edges.tolist())])
    loudness = (bands / bands.max().clamp(min=FLOOR)).clamp(min=FLOOR).log() / -np.log(FLOOR) + 1
    return _webp(Image.fromarray(_shade(loudness.flip(0).numpy())).resize((2 * SIDE, SIDE), Image.Resampling.BILINEAR))


def lines(media: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> bytes:
    """A plot of other media: numbers over their first axis, with a line for each of the first columns."""
    columns = media.reshape(len(media), -1).T[: len(SHADES) - 1].astype(np.float64)
    low, high = columns.min(), columns.max()
    picture = Image.new("RGB", (2 * SIDE, SIDE), tuple(SHADES[0].tolist()))
    across = np.linspace(0, 2 * SIDE - 1, len(media))
    for shade, column in zip(SHADES[:0:-1].tolist(), columns, strict=False):
        height = (SIDE - 1) * (1 - (column - low) / max(high - low, FLOOR))
        points = np.stack([across, height], axis=1).ravel().tolist()
        ImageDraw.Draw(picture).line(points, fill=tuple(shade), width=2)
    return _webp(picture)


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _shade(
    level: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    at = np.linspace(0, 1, len(SHADES))
    return np.stack([np.interp(level, at, SHADES[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
