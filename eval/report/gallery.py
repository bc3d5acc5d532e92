"""Retrieval examples for the report: queries with their best candidates, as pictures, sounds and text.

The queries are not chosen by hand: they are the first ones, and the first after them whose best candidate is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.products import products
from tercet.eval.report.media import lines, mp3, spectrogram, webp
from tercet.eval.retrieval.retrieval import directions, pair


@dataclass(frozen=True)
class Exhibit:
    """One modality of an item, with its caption."""

    image: bytes | None = None  # WebP: a picture, the spectrogram of a sound, or a plot of other media
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
SEARCHED = 256  # the first queries, among which one with a wrong answer is searched

Load = Callable[[int], Sample]  # a sample's id -> the sample with its picture and its sound
Show = Callable[[str, int], Exhibit]  # a modality and a row of it in the table


def galleries(table: EmbeddingTable, load: Load, rate: int, candidates: int | None = None) -> list[Gallery]:
    """A gallery for each direction. Sounds are at `rate`."""

    first = {modality: table.first_rows(modality) for modality in table.modalities}

    def show(modality: str, row: int) -> Exhibit:
        item = int(table.items[modality][row])
        return exhibit(load(table.samples[item].id), modality, rate, row - first[modality][item])

    return [_gallery(table, show, x, y, candidates) for x, y in directions(table.modalities)]


def exhibit(sample: Sample, modality: str, rate: int, number: int = 0) -> Exhibit:
    """One modality of a decoded sample, ready for the page; of its captions the one with this number."""
    caption = sample.text[number if modality == "text" else 0] if sample.text else sample.key
    if modality == "image" and sample.image is not None:
        return Exhibit(image=webp(sample.image), caption=caption)
    if modality == "audio" and sample.audio is not None:
        return Exhibit(image=spectrogram(sample.audio, rate), audio=mp3(sample.audio, rate), caption=caption)
    if modality in sample.media:
        return Exhibit(image=lines(sample.media[modality]), caption=caption)
    return Exhibit(text=caption)


def _gallery(table: EmbeddingTable, show: Show, query: str, key: str, candidates: int | None) -> Gallery:
    paired = pair(table, query, key, candidates)
    items, answers, rows = paired.items[query][:SEARCHED], paired.items[key], paired.rows
    scores = products(table.vectors[query][rows[query][:SEARCHED]], table.vectors[key][rows[key]], table.world)
    best = scores.topk(min(HITS, scores.shape[1]), dim=1)
    right = table.groups[answers][best.indices] == table.groups[items][:, None]
    searches = []
    for row in _chosen(right[:, 0]):
        found = zip(rows[key][best.indices[row]].tolist(), best.values[row].tolist(), right[row].tolist(), strict=True)
        hits = tuple(GalleryHit(show(key, other), score, correct) for other, score, correct in found)
        searches.append(Search(show(query, int(rows[query][row])), hits))
    return Gallery(query, key, tuple(searches))


def _chosen(first_right: Tensor) -> list[int]:
    """The first queries, and the first beyond them whose best candidate is wrong."""
    failed = (~first_right[QUERIES:]).nonzero().flatten()[:1] + QUERIES
    return [*range(min(QUERIES, len(first_right))), *failed.tolist()]
