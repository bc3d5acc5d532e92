"""The index of a manifest on disk, valid until the table or one of the folders changes.

It is in a hidden folder beside the data, or in the user's cache if the data are read-only. Bytes that cannot be read
from their table row by row are in a file beside the index.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from tercet.data_pipelines.manifests.index import Arrays
from tercet.data_pipelines.manifests.watched import seen
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.data_pipelines.shards.record import places
from tercet.errors import UserError
from tercet.whole_file import write_whole

EDITION = 7  # raise it whenever the arrays or the facts change their meaning
FACTS = "manifest"


@dataclass(frozen=True)
class IndexFile:
    """The path of an index, and the facts in its header."""

    place: Path
    facts: dict[str, Any]

    @property
    def payload(self) -> Path:
        return payload_beside(self.place)


def payload_beside(place: Path) -> Path:
    return place.with_suffix(".bytes")


def find_index_file(name: str) -> IndexFile | None:
    """The index of this name, if its tables and folders have not changed since."""
    folder = os.path.dirname(name)
    for place in map(Path, places(name)):
        facts = _facts(place)
        if facts and all(seen(os.path.join(folder, path)) == state for path, state in facts["watched"].items()):
            return IndexFile(place, facts)
    return None


def new_place(name: str) -> Path:
    """A path where an index can be written. Creates its folder first, because that changes the folder above."""
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


def save_index_file(place: Path, arrays: Arrays, facts: dict[str, Any], payload: Path | None) -> IndexFile:
    """Several ranks may write it at once."""
    facts = {**facts, "edition": EDITION}
    if payload:
        os.replace(payload, payload_beside(place))
    write_whole(place, save(dict(arrays), metadata={FACTS: json.dumps(facts)}))
    return IndexFile(place, facts)


def _facts(place: Path) -> dict[str, Any] | None:
    try:
        with place.open("rb") as file:
            head = file.read(int.from_bytes(file.read(8), "little"))
        facts: dict[str, Any] = json.loads(json.loads(head)["__metadata__"][FACTS])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts if facts.get("edition") == EDITION else None
