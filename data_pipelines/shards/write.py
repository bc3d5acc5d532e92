"""Writing WebDataset shards: a shard stands under its name when it is whole, and never before."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_shard(path: Path, samples: Iterable[Mapping[str, str | bytes]]) -> None:
    """Samples are `__key__` and members by extension. Same samples, same bytes: times and owners are fixed."""
    from webdataset import TarWriter  # brings torch along, which whoever only draws samples does without

    unfinished = path.with_name(path.name + ".tmp")
    with unfinished.open("wb") as stream, TarWriter(stream, user="tercet", group="tercet", mtime=0) as writer:
        for sample in samples:
            writer.write(sample)
    os.replace(unfinished, path)
