"""The samples of one shard, grouped by webdataset's own stages as the bytes arrive.

Its `gopen`, which runs shell commands, is not used: the stages get a stream that is open already.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.further_files import is_wanted
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.source import LARGEST_FILE, Files
from tercet.data_pipelines.stream.reconnecting import opened, stated_samples
from tercet.data_pipelines.stream.tar import CheckedTar, Damage
from tercet.modality import EXTENSIONS

File = dict[str, Any]  # webdataset's: `fname`, `data`, `__url__`
COMPLETE: File = {}  # tells webdataset that a sample has all its files


def samples_of(shard: str, wanted: frozenset[str], patience: Patience) -> Iterator[tuple[str, Files | BadSample]]:
    """Key and wanted files of each sample. Raises `Damage` where a damaged shard shows it, at the latest after the last
    sample."""
    samples = 0
    with opened(shard, patience) as stream:
        tar = CheckedTar(stream)
        suffixes = set(wanted)
        files = _separated(_read(shard, tar, wanted, suffixes))
        for sample in group_by_keys(files, suffixes=suffixes):
            samples += 1
            yield sample["__key__"], _files(sample)
        tar.finish()
    _check(samples, stated_samples(shard, patience))


def _read(shard: str, tar: CheckedTar, wanted: frozenset[str], suffixes: set[str]) -> Iterator[File]:
    """The files with a known extension, and the wanted further files, whose names are added to `suffixes`; a
    `BadSample` instead of one that is too large."""
    large: deque[str] = deque()

    def select(name: str) -> bool:
        extension = _extension(name)
        if extension not in EXTENSIONS:
            if not is_wanted(extension, wanted):
                return False
            suffixes.add(extension)
        if tar.size > LARGEST_FILE:
            large.append(name)
        return tar.size <= LARGEST_FILE

    def skipped() -> Iterator[File]:
        while large:
            yield {"fname": large.popleft(), "data": BadSample("file over the size cap"), "__url__": shard}

    for file in tar_file_expander([{"url": shard, "stream": tar}], select_files=select, eof_value=None):
        yield from skipped()
        yield file
    yield from skipped()


def _separated(files: Iterable[File]) -> Iterator[File]:
    """Starts a new sample at a second file with the same extension, where webdataset would raise."""
    key, extensions = None, set[str]()
    for file in files:
        own, extension = base_plus_ext(file["fname"])[0], _extension(file["fname"])
        if own == key and extension in extensions:
            yield COMPLETE
        if own != key or extension in extensions:
            key, extensions = own, set()
        extensions.add(extension)
        yield file


def _extension(name: str) -> str:
    extension: str | None = base_plus_ext(name)[1]
    return (extension or "").lower()


def _files(sample: File) -> Files | BadSample:
    files = {name: data for name, data in sample.items() if not name.startswith("__")}
    return next((data for data in files.values() if isinstance(data, BadSample)), files)


def _check(samples: int, stated: int | None) -> None:
    if not samples:
        raise Damage("shard: empty", f"it holds no samples; known files: {', '.join(EXTENSIONS)}")
    if stated is not None and samples != stated:
        raise Damage("shard: other than stated", f"it holds {samples} samples, but its _stats.json says {stated}")
