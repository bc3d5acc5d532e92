"""Retrieval galleries: queries and what the model brings back for them, to be seen and heard.

Which queries are shown is not a matter of taste: the first of the examined items, then the first that failed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.eval.embed import EmbeddingTable
from tercet.eval.report.media import lines, mp3, spectrogram, webp
from tercet.eval.retrieval import directions, pair


@dataclass(frozen=True)
class Exhibit:
    """An item seen through one modality; `caption` says in small print what it is."""

    image: bytes | None = None  # WebP; the spectrogram of a sound, the course of numbers
    audio: bytes | None = None  # MP3
    text: str = ""
    caption: str = ""


@dataclass(frozen=True)
class GalleryHit:
    exhibit: Exhibit
    score: float
    correct: bool


@dataclass(frozen=True)
class Search:
    """A query and its best candidates, best first."""

    query: Exhibit
    hits: tuple[GalleryHit, ...]


@dataclass(frozen=True)
class Gallery:
    """Searches in one direction."""

    query: str
    key: str
    searches: tuple[Search, ...]


QUERIES, HITS = 3, 5
EXAMINED = 256  # queries among which a failed one is looked for

Load = Callable[[int], Sample]  # a sample's id -> the sample with its picture and its sound
Show = Callable[[int, str], Exhibit]  # an item of the table, seen through a modality


def galleries(table: EmbeddingTable, load: Load, rate: int, candidates: int | None = None) -> list[Gallery]:
    """A gallery for each direction; sounds are at `rate`."""

    def show(item: int, modality: str) -> Exhibit:
        return exhibit(load(table.samples[item].id), modality, rate)

    return [_gallery(table, show, x, y, candidates) for x, y in directions(table.modalities)]


def exhibit(sample: Sample, modality: str, rate: int) -> Exhibit:
    """What of a decoded sample is shown."""
    caption = sample.text[0] if sample.text else sample.key
    if modality == "image" and sample.image is not None:
        return Exhibit(image=webp(sample.image), caption=caption)
    if modality == "audio" and sample.audio is not None:
        return Exhibit(image=spectrogram(sample.audio, rate), audio=mp3(sample.audio, rate), caption=caption)
    if modality in sample.media:
        return Exhibit(image=lines(sample.media[modality]), caption=caption)
    return Exhibit(text=caption)


def _gallery(table: EmbeddingTable, show: Show, query: str, key: str, candidates: int | None) -> Gallery:
    asked = pair(table, query, key, candidates)
    items, answers = asked.items[query][:EXAMINED], asked.items[key]
    scores = table.vectors[query][asked.rows[query][:EXAMINED]] @ table.vectors[key][asked.rows[key]].T
    best = scores.topk(min(HITS, scores.shape[1]), dim=1)
    right = table.groups[answers][best.indices] == table.groups[items][:, None]
    searches = []
    for row in _chosen(right[:, 0]):
        found = zip(answers[best.indices[row]].tolist(), best.values[row].tolist(), right[row].tolist(), strict=True)
        hits = tuple(GalleryHit(show(item, key), score, correct) for item, score, correct in found)
        searches.append(Search(show(int(items[row]), query), hits))
    return Gallery(query, key, tuple(searches))


def _chosen(first_right: Tensor) -> list[int]:
    """The first queries, and the first beyond them whose best candidate is wrong."""
    failed = (~first_right[QUERIES:]).nonzero().flatten()[:1] + QUERIES
    return [*range(min(QUERIES, len(first_right))), *failed.tolist()]
