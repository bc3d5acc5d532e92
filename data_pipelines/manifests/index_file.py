"""A manifest's index on disk, kept as long as the table or the folders are what they were.

It stands beside the data, in a hidden folder, or in the user's cache where the data are read-only. Bytes that a table
holds and that cannot be read from it row by row stand in one file beside the index.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors.numpy import save

from tercet.data_pipelines.manifests.index import Arrays
from tercet.data_pipelines.manifests.watched import seen
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.data_pipelines.shards.record import places
from tercet.errors import UserError

EDITION = 5  # raise it whenever the arrays or the facts come to mean something else
FACTS = "manifest"


@dataclass(frozen=True)
class Kept:
    """Where an index stands, and what is known without reading it."""

    place: Path
    facts: dict[str, Any]

    @property
    def payload(self) -> Path:
        return payload_beside(self.place)


def payload_beside(place: Path) -> Path:
    return place.with_suffix(".bytes")


def find_kept(name: str) -> Kept | None:
    """The index of this name, if what it was made of has not changed since."""
    folder = os.path.dirname(name)
    for place in map(Path, places(name)):
        facts = _facts(place)
        if facts and all(seen(os.path.join(folder, path)) == state for path, state in facts["watched"].items()):
            return Kept(place, facts)
    return None


def new_place(name: str) -> Path:
    """Where an index can be written. Its folder is made first: that changes the folder around it."""
    for place in map(Path, places(name)):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place.parent, os.W_OK):
            return place
    raise UserError(
        f"the index of {name} can be written neither beside it nor to {cache_folder()}; "
        "set TERCET_CACHE to a writable folder"
    )


def keep(place: Path, arrays: Arrays, facts: dict[str, Any], payload: Path | None) -> Kept:
    """Written whole or not at all, for several ranks may do it at once."""
    told = {**facts, "edition": EDITION}
    unfinished = unfinished_beside(place)
    unfinished.write_bytes(save(dict(arrays), metadata={FACTS: json.dumps(told)}))
    if payload:
        os.replace(payload, payload_beside(place))
    os.replace(unfinished, place)
    return Kept(place, told)


def unfinished_beside(place: Path) -> Path:
    return place.with_name(f"{place.name}.{uuid4().hex}.tmp")


def _facts(place: Path) -> dict[str, Any] | None:
    try:
        with place.open("rb") as file:
            head = file.read(int.from_bytes(file.read(8), "little"))
        facts: dict[str, Any] = json.loads(json.loads(head)["__metadata__"][FACTS])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts if facts.get("edition") == EDITION else None
