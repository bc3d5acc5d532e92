"""The captions of the samples of a source, one sample after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.source import Files, Source
from tercet.errors import UserError

AT_ONCE = 256  # samples that are read together


@dataclass(frozen=True)
class Captioned:
    """A sample's key and its captions, all of them right. The first is the one that is rewritten."""

    key: str
    right: tuple[str, ...]


class CaptionedSamples:
    """`read` and `without`: how many samples had captions, and how many had none or could not be read."""

    def __init__(self, source: Source, reader: CaptionReader, limit: int | None = None) -> None:
        self._source, self._reader = source, reader
        self._count = min(len(source), limit or len(source))
        self._wanted = reader.wanted | {"json"}
        self.read, self.without = 0, 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Captioned]:
        seen: set[int] = set()
        for start in range(0, self._count, AT_ONCE):
            ids = range(start, min(start + AT_ONCE, self._count))
            for id, files in zip(ids, self._source.read(ids, self._wanted), strict=True):
                right = self._captions(files)
                if right:
                    self.read += 1
                    yield Captioned(self._key(id, seen), right)
                else:
                    self.without += 1

    def _key(self, id: int, seen: set[int]) -> str:
        key = self._source.key(id)
        hashed = xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"))
        if hashed in seen:
            raise UserError(
                f"two samples have the key `{key}`, the second in {self._source.shard(id)}; a sidecar names samples by "
                "key, so give each its own, as `tercet data pack` does"
            )
        seen.add(hashed)
        return key

    def _captions(self, files: Files | BadSample) -> tuple[str, ...]:
        if isinstance(files, BadSample):
            return ()
        try:
            found = self._reader(files, decode_meta(files["json"]) if "json" in files else {})
            return found.all if found else ()
        except BadSample:
            return ()
