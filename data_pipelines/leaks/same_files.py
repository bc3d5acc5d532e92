"""Which samples of one source have a picture or a sound that another source has, too, byte for byte.

Files of different sizes differ. Only files of the other source that are as large as one of the first are read.
"""

from collections.abc import Iterable, Iterator, Sequence

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.duplicates.prints import media
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.survey.content import content_hash
from tercet.modality import FILES

AT_ONCE = 256  # samples in memory


def same_files(source: Source, ids: Iterable[int], other: Source) -> set[int]:
    """Those of the ids whose picture, sound or other medium is a file of the other source."""
    found: set[int] = set()
    for modality in FILES.keys() - {"text"}:
        holders: dict[int, list[int]] = {}
        for id, content in _contents(source, list(ids), modality):
            holders.setdefault(content, []).append(id)
        sizes = {source.size(id, modality) for same in holders.values() for id in same}
        alike = [id for id in range(len(other)) if other.size(id, modality) in sizes]
        for _, content in _contents(other, alike, modality):
            found.update(holders.get(content, ()))
    return found


def _contents(source: Source, ids: Sequence[int], modality: str) -> Iterator[tuple[int, int]]:
    """Each id that has a file of the modality, with the hash of the file."""
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        for id, files in zip(some, source.read(some, FILES[modality]), strict=True):
            content = None if isinstance(files, BadSample) else media(files, modality)
            if content is not None:
                yield id, content_hash(content)
