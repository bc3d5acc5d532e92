"""Writes WebDataset shards, each with its index. A shard gets its name only when it is complete."""

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.shards.index import arrange
from tercet.data_pipelines.shards.record import Record, save_record
from tercet.data_pipelines.shards.tar import BLOCK, Member
from tercet.whole_file import whole_file

SampleFiles = dict[str, str | bytes]  # `__key__`, and files by extension


def write_shard(path: Path, samples: Iterable[Mapping[str, str | bytes]]) -> Record:
    """Equal samples give equal bytes: times and owners are fixed."""
    members: list[Member] = []
    digests: dict[int, int] = {}
    with (
        whole_file(path) as draft,
        draft.open("wb") as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, payload in _files(samples):
            tar.addfile(_header(name, payload), BytesIO(payload))
            offset = stream.tell() - -(-len(payload) // BLOCK) * BLOCK
            members.append(Member(name.encode("utf-8", "surrogateescape"), offset, len(payload)))
            digests[offset] = xxh3_64_intdigest(payload)
    index, census = arrange(members)
    return save_record(str(path), index.with_checksums(lambda offset, size: digests[offset]), census)


def _files(samples: Iterable[Mapping[str, str | bytes]]) -> Iterator[tuple[str, bytes]]:
    for sample in samples:
        key = str(sample["__key__"])
        for extension in sorted(sample.keys() - {"__key__"}):
            payload = sample[extension]
            yield f"{key}.{extension}", payload.encode() if isinstance(payload, str) else payload


def _header(name: str, payload: bytes) -> tarfile.TarInfo:
    """Plain ustar if the name allows it: pax headers would double the headers that an index must read."""
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.uname, header.gname = len(payload), 0, "tercet", "tercet"
    return header
