"""The labels of a folder of CLIP_benchmark whose samples have several: `KEY.npy`, a one or a zero for each class.

They become a sidecar in the user's cache, with the names of the labels in the list `labels` of each sample. Arrays of
objects, which could run code, are refused.
"""

import json
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import numpy as np

from tercet.data_pipelines.captions.sidecar import KEY, Row, write_rows
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.data_pipelines.shards.tar import members
from tercet.data_pipelines.source import LARGEST_FILE
from tercet.errors import UserError

LABELS, ENDING = "labels", b"npy"


def labels_sidecar(shards: Path, labels: Sequence[str]) -> Path:
    """The sidecar of the shards in a folder. `labels`: the name of each class, in the order of the arrays."""
    tars = sorted(shards.glob("*.tar"))
    states = [(os.path.abspath(tar), tar.stat().st_size, tar.stat().st_mtime_ns) for tar in tars]
    digest = blake2b(json.dumps([states, list(labels)]).encode(), digest_size=12).hexdigest()
    place = cache_folder() / LABELS / f"{digest}.jsonl"
    if not place.exists():
        rows: dict[str, Row] = {}
        for tar in tars:
            rows |= {str(row[KEY]): row for row in _rows(tar, labels)}
        if not rows:
            raise UserError(f"{shards}: its samples have several labels each, but no `.npy` that holds them; add them")
        write_rows(place, rows.values())
    return place


def _rows(tar: Path, labels: Sequence[str]) -> Iterator[Row]:
    with tar.open("rb") as file:
        for member in members(str(tar)):
            folder, slash, base = member.name.rpartition(b"/")
            stem, _, ending = base.partition(b".")
            if ending.lower() == ENDING and member.size <= LARGEST_FILE:
                file.seek(member.offset)
                name = (folder + slash + stem).decode("utf-8", "replace")
                yield {KEY: name, LABELS: _labels(file.read(member.size), labels, f"{name}.npy in {tar}")}


def _labels(data: bytes, labels: Sequence[str], where: str) -> list[str]:
    try:
        values = np.lib.format.read_array(BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{where} is not an array of numbers; write the labels again") from error
    if values.shape != (len(labels),) or values.dtype.kind not in "biuf":
        raise UserError(
            f"{where} has the shape {list(values.shape)}; give one number for each of {len(labels)} classes"
        )
    return [labels[place] for place in np.flatnonzero(values > 0).tolist()]
