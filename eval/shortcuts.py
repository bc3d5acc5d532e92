"""Shortcuts: what retrieval reaches without understanding anything, on the same items as the model.

Two feature sets, one method. The features are colour histograms, mean log-mel spectra, bags of words and the course
of other numbers, or the embeddings of an untrained model. Ridge regression, fitted on training items, carries one
modality's features into another's, and the nearest by cosine is the answer. A trained model that does not stay far
above both has been set too easy a task.

Shape letters: N training items, P features of the query's modality, K of the candidates'.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torchaudio.functional as audio_functional
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Media, Sample
from tercet.eval.embed import EmbeddingTable
from tercet.eval.ranking import rank
from tercet.eval.retrieval import directions, one_row_each, pair, shared_items
from tercet.modality import MODALITIES

BINS = 6  # per colour channel
MELS = 64
WORDS = 512  # buckets of the bag of words
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # relative to the variance of a feature


def simple_features(samples: Iterable[Sample], rate: int) -> EmbeddingTable:
    """Colour histograms, mean log-mel spectra, bags of words and courses of decoded samples; sounds are at `rate`."""
    mel = audio_functional.melscale_fbanks(513, 0.0, rate / 2, MELS, rate, norm="slaney")
    found = [(replace(sample, media={}), _features(sample, mel)) for sample in samples]
    found.sort(key=lambda pair: pair[0].id)
    vectors, items = {}, {}
    for modality in MODALITIES:
        present = [item for item, (_, features) in enumerate(found) if modality in features]
        if present:
            vectors[modality] = torch.stack([found[item][1][modality] for item in present])
            items[modality] = torch.tensor(present)
    return EmbeddingTable(vectors, items, tuple(sample for sample, _ in found))


def ridge_recall(train: EmbeddingTable, table: EmbeddingTable, candidates: int | None = None) -> dict[str, float]:
    """R@1 in each direction, as `image→text`, of features carried over by the regression that serves them best.

    A direction that no training item shows has none. The penalty is chosen on the examined items themselves: a
    shortcut is given every advantage.
    """
    shown = [each for each in directions(table.modalities) if _together(train, *each)]
    return {f"{x}→{y}": _recall(train, table, x, y, candidates) for x, y in shown}


def _features(sample: Sample, mel: Tensor) -> dict[str, Tensor]:
    found = {}
    if sample.image is not None:
        found["image"] = _colour_histogram(sample.image)
    if sample.audio is not None:
        found["audio"] = _mean_spectrum(sample.audio, mel)
    if sample.text:
        found["text"] = _bag_of_words(sample.text[0])
    return found | {name: _course(media) for name, media in sample.media.items() if name not in ("image", "audio")}


def _colour_histogram(image_HWC: NDArray[np.uint8]) -> Tensor:
    """Square roots of the shares of joint RGB bins."""
    level = (torch.from_numpy(image_HWC).long() * BINS // 256).flatten(0, 1).T
    bins = (level[0] * BINS + level[1]) * BINS + level[2]
    return torch.bincount(bins, minlength=BINS**3).div(len(bins)).sqrt()


def _mean_spectrum(audio_T: NDArray[np.float32], mel: Tensor) -> Tensor:
    window = torch.hann_window(1024)
    power = torch.stft(torch.from_numpy(audio_T), 1024, 256, window=window, return_complex=True).abs().square()
    return (mel.T @ power).clamp(min=1e-10).log().mean(dim=1)


def _course(media: Media) -> Tensor:
    """Of numbers that are neither: mean, spread and mean step of every column."""
    rows = torch.from_numpy(media).reshape(len(media), -1).float()
    steps = rows.diff(dim=0, prepend=rows[:1]).abs()
    return torch.cat([rows.mean(dim=0), rows.std(dim=0, correction=0), steps.mean(dim=0)])


def _bag_of_words(text: str) -> Tensor:
    buckets = torch.tensor([zlib.crc32(word.encode()) % WORDS for word in text.lower().split()])
    return torch.bincount(buckets, minlength=WORDS).float()


@dataclass(frozen=True)
class _Scale:
    """Centres features, and scales all that vary to variance one."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "_Scale":
        return cls(features.mean(dim=0), features.std(dim=0).clamp(min=1e-6))

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation


def _recall(train: EmbeddingTable, table: EmbeddingTable, query: str, key: str, candidates: int | None) -> float:
    x_NP, y_NK = _aligned(train, query, key)
    scale_x, scale_y = _Scale.of(x_NP), _Scale.of(y_NK)
    asked = pair(table, query, key, candidates)
    groups = table.groups if candidates is None else torch.arange(len(table.samples))
    answers = F.normalize(scale_y(table.vectors[key][asked.rows[key]].double()), dim=1)
    questions = scale_x(table.vectors[query][asked.rows[query]].double())
    recalls = []
    for weights_PK in _ridge(scale_x(x_NP), scale_y(y_NK)):
        guesses = F.normalize(questions @ weights_PK, dim=1)
        place = rank(guesses, answers, groups[asked.items[query]], groups[asked.items[key]]).rank
        recalls.append(float((place == 1).double().mean()))
    return max(recalls)


def _together(table: EmbeddingTable, first: str, second: str) -> bool:
    carry = table.items.keys() >= {first, second}
    return carry and bool(torch.isin(table.items[first], table.items[second]).any())


def _aligned(table: EmbeddingTable, query: str, key: str) -> tuple[Tensor, Tensor]:
    """Both modalities' features of every item that carries both."""
    joined = one_row_each(table, (query, key), shared_items(table, query, key))
    return table.vectors[query][joined.rows[query]].double(), table.vectors[key][joined.rows[key]].double()


def _ridge(x_NP: Tensor, y_NK: Tensor) -> list[Tensor]:
    """(xᵀx + λN)⁻¹ xᵀy for every penalty λ, from one decomposition."""
    values, vectors_PP = torch.linalg.eigh(x_NP.T @ x_NP)
    turned_PK = vectors_PP.T @ (x_NP.T @ y_NK)
    return [vectors_PP @ (turned_PK / (values + penalty * len(x_NP))[:, None]) for penalty in PENALTIES]
