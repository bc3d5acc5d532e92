"""The fingerprints of an evaluation set, in memory, to compare with any number of others."""

from collections.abc import Iterable, Iterator

import numpy as np

from tercet.data_pipelines.duplicates import picture
from tercet.data_pipelines.duplicates.near import Near
from tercet.data_pipelines.duplicates.prints import Print
from tercet.data_pipelines.duplicates.sound import Known

FILES = {"image": "image: same file", "audio": "audio: same file"}
LOOKS, SOUNDS, CAPTION = "image: looks the same", "audio: sounds the same", "text: same caption"
KINDS = (FILES["image"], LOOKS, FILES["audio"], SOUNDS, CAPTION)


class Evidence:
    """Finds the evaluation samples that equal a given sample."""

    def __init__(self, prints: Iterable[Print]) -> None:
        kept = list(prints)
        self._exact = {name: _holders((one.exact.get(name), one.id) for one in kept) for name in FILES}
        self._captions = _holders((caption, one.id) for one in kept for caption in one.captions)
        seen = [(one.id, one.looks) for one in kept if one.looks is not None]
        self._seen = np.repeat(np.array([id for id, _ in seen], dtype=np.int64), len(picture.VIEWS))
        none = np.empty(0, np.uint64)
        self._near = [Near(np.concatenate([none, *(looks[n] for _, looks in seen)])) for n in (0, 1)]
        heard = [(one.id, one.heard.words) for one in kept if one.heard is not None]
        self._heard = [id for id, _ in heard]
        self._sounds = Known([words for _, words in heard])

    def like(self, one: Print) -> Iterator[tuple[str, int]]:
        """Kind and id of each evaluation sample that it may be the same as; what is the same file is called that.

        Of those that share a caption only the first is named: "a photo of a dog" has any number of them.
        """
        same = {name: self._exact[name].get(content, []) for name, content in one.exact.items()}
        for name, ids in same.items():
            yield from ((FILES[name], id) for id in ids)
        yield from ((LOOKS, id) for id in self._looking(one) if id not in same["image"])
        yield from ((SOUNDS, id) for id in self._sounding(one) if id not in same["audio"])
        first = {self._captions[caption][0] for caption in one.captions & self._captions.keys()}
        yield from ((CAPTION, id) for id in sorted(first))

    def _looking(self, one: Print) -> list[int]:
        if one.looks is None:
            return []
        rows = [near.pairs(looks)[1] for near, looks in zip(self._near, one.looks, strict=True)]
        ids: list[int] = np.unique(self._seen[np.concatenate(rows)]).tolist()
        return ids

    def _sounding(self, one: Print) -> list[int]:
        return [] if one.heard is None else [self._heard[which] for which in self._sounds.shared(one.heard.words)]


def _holders(pairs: Iterable[tuple[int | None, int]]) -> dict[int, list[int]]:
    """Who has each hash."""
    holders: dict[int, list[int]] = {}
    for content, id in pairs:
        if content is not None:
            holders.setdefault(content, []).append(id)
    return holders
