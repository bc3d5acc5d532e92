"""Features that need no learning: colour histograms, log-mel statistics and duration, words and letters.

Of other numbers, the course: mean, spread and mean step of every column.
"""

import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tercet.data_pipelines.sample import Media, Sample
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.modality import MODALITIES

BINS = 6  # per colour channel
MELS = 64
WORDS = 512  # buckets of the bag of words
NGRAMS = 1024  # buckets of the bag of character n-grams
LONGEST = 3  # letters of an n-gram


def simple_features(samples: Iterable[Sample], rate: int, captions: int | None = 1) -> EmbeddingTable:
    """The features of decoded samples; sounds are at `rate`. `captions` of each at most; None: all. Keeps no media."""
    found = [(replace(sample, media={}), _features(sample, rate, captions)) for sample in samples]
    found.sort(key=lambda pair: pair[0].id)
    vectors, items = {}, {}
    for modality in MODALITIES:
        present = [(item, row) for item, (_, features) in enumerate(found) for row in features.get(modality, ())]
        if present:
            vectors[modality] = torch.stack([row for _, row in present])
            items[modality] = torch.tensor([item for item, _ in present])
    return EmbeddingTable(vectors, items, tuple(sample for sample, _ in found))


def _features(sample: Sample, rate: int, captions: int | None) -> dict[str, list[Tensor]]:
    """The rows of each modality that the sample has."""
    found = {}
    if sample.image is not None:
        found["image"] = [_colour_histogram(sample.image)]
    if sample.audio is not None:
        found["audio"] = [_sound(sample.audio, _mel_bands(rate), rate)]
    if sample.text:
        found["text"] = [_words_and_letters(caption) for caption in sample.text[:captions]]
    return found | {name: [_course(media)] for name, media in sample.media.items() if name not in ("image", "audio")}


def _colour_histogram(image_HWC: NDArray[np.uint8]) -> Tensor:
    """Square roots of the shares of joint RGB bins."""
    level = (torch.from_numpy(image_HWC).long() * BINS // 256).flatten(0, 1).T
    bins = (level[0] * BINS + level[1]) * BINS + level[2]
    return torch.bincount(bins, minlength=BINS**3).div(len(bins)).sqrt()


@cache
def _mel_bands(rate: int) -> Tensor:
    from torchaudio.functional import melscale_fbanks  # only a run with sounds loads torchaudio

    bands: Tensor = melscale_fbanks(513, 0.0, rate / 2, MELS, rate, norm="slaney")
    return bands


def _sound(audio_T: NDArray[np.float32], mel: Tensor, rate: int) -> Tensor:
    """Mean and spread of each band of the log-mel spectrum, and the logarithm of the seconds."""
    window = torch.hann_window(1024)
    power = torch.stft(torch.from_numpy(audio_T), 1024, 256, window=window, return_complex=True).abs().square()
    bands = (mel.T @ power).clamp(min=1e-10).log()
    seconds = torch.tensor([math.log(len(audio_T) / rate)])
    return torch.cat([bands.mean(dim=1), bands.std(dim=1, correction=0), seconds])


def _words_and_letters(text: str) -> Tensor:
    """Square roots of how often each word and each n-gram of letters occurs, and the logarithm of the length."""
    lower = text.lower()
    counts = [_bag(lower.split(), WORDS), _bag(_ngrams(lower), NGRAMS)]
    return torch.cat([torch.cat(counts).sqrt(), torch.tensor([math.log1p(len(lower))])])


def _ngrams(text: str) -> Iterator[str]:
    return (text[at : at + size] for size in range(1, LONGEST + 1) for at in range(len(text) - size + 1))


def _bag(words: Iterable[str], buckets: int) -> Tensor:
    hashes = torch.tensor([zlib.crc32(word.encode()) % buckets for word in words], dtype=torch.long)
    return torch.bincount(hashes, minlength=buckets).float()


def _course(media: Media) -> Tensor:
    """Mean, spread and mean step of every column."""
    rows = torch.from_numpy(media).reshape(len(media), -1).float()
    steps = rows.diff(dim=0, prepend=rows[:1]).abs()
    return torch.cat([rows.mean(dim=0), rows.std(dim=0, correction=0), steps.mean(dim=0)])
