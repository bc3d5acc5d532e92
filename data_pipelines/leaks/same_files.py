"""Which samples of one source have a picture or a sound that another source has, too, byte for byte.

Files of different sizes differ. Only files of the other source that are as large as one of the first are read. Files of
the other source behind URLs are not downloaded: they are compared by their URLs.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.duplicates.prints import media
from tercet.data_pipelines.manifests.medium import is_remote
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.survey.content import content_hash
from tercet.modality import FILES

AT_ONCE = 256  # samples in memory


@dataclass(frozen=True)
class SameFiles:
    """`ids`: the samples whose file the other source has, too. `behind_urls`: samples of the other source with a file
    behind a URL that none of the ids has; their content was not compared."""

    ids: set[int]
    behind_urls: int


def same_files(source: Source, ids: Iterable[int], other: Source) -> SameFiles:
    """Finds those of the ids whose picture, sound or other medium is a file of the other source."""
    wanted = list(ids)
    found: set[int] = set()
    modalities = FILES.keys() - {"text"}
    for modality in modalities:
        sizes, by_hash = set(), defaultdict(list)
        for id, content in _contents(source, wanted, modality):
            sizes.add(len(content))
            by_hash[content_hash(content)].append(id)
        alike = [id for id in range(len(other)) if other.size(id, modality) in sizes]
        for _, content in _contents(other, alike, modality):
            found.update(by_hash.get(content_hash(content), ()))
    by_url = defaultdict(list)
    for id, url in _urls(source, wanted, modalities):
        by_url[url].append(id)
    unread: set[int] = set()
    for id, url in _urls(other, range(len(other)), modalities):
        found.update(by_url.get(url, ()))
        unread.update([] if url in by_url else [id])
    return SameFiles(found, len(unread))


def _contents(source: Source, ids: Sequence[int], modality: str) -> Iterator[tuple[int, bytes]]:
    """Each id that has a file of the modality, with the content of the file."""
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        for id, files in zip(some, source.read(some, FILES[modality]), strict=True):
            content = None if isinstance(files, BadSample) else media(files, modality)
            if content is not None:
                yield id, content


def _urls(source: Source, ids: Iterable[int], modalities: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Each id that has files behind URLs, with their URLs."""
    for id in ids:
        for modality in modalities:
            if not source.size(id, modality) and is_remote(url := source.path(id, modality)):
                yield id, url
