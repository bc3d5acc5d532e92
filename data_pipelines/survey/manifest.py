"""The checksums in `manifest.json`, which packing writes beside shards."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from tercet.errors import UserError


def promises(shards: Iterable[str]) -> dict[str, str]:
    """The sha256 of every shard in a manifest beside one of the shards."""
    folders = dict.fromkeys(map(os.path.dirname, shards))
    return {shard: digest for folder in folders for shard, digest in _promised(folder)}


def _promised(folder: str) -> Iterable[tuple[str, str]]:
    path = Path(folder, "manifest.json")
    if not path.is_file():
        return []
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["shards"]
        return [(os.path.join(folder, shard["name"]), str(shard["sha256"])) for shard in listed if shard["samples"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a manifest of shards; delete it, or pack the shards again") from error
