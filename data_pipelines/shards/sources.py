"""What a config names, opened: shards on disk are indexed first, shards behind URLs are fetched as they are read, and
tables and folders of files are read from where they lie."""

from collections.abc import Sequence

from tercet.data_pipelines.manifests.find import is_manifest
from tercet.data_pipelines.manifests.reading import PLAIN, Reading
from tercet.data_pipelines.manifests.source import open_manifest_source
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.remote import open_remote
from tercet.data_pipelines.shards.tar import Missing
from tercet.data_pipelines.source import Source
from tercet.errors import UserError


def open_source(
    spec: str | Sequence[str],
    *,
    missing: Missing = "fail",
    max_bad: float = 0.01,
    cache: Cache | None = None,
    reading: Reading = PLAIN,
) -> Source:
    """`reading` says how tables and folders are read; shards say that themselves."""
    if is_manifest(spec):
        return open_manifest_source(spec, reading, (cache or Cache()).limit_bytes)
    shards = find_shards(spec)
    remote = [shard for shard in shards if is_url(shard)]
    if not remote:
        return open_shards(shards, missing=missing, max_bad=max_bad)
    if len(remote) < len(shards):
        raise UserError(
            f"{redacted(remote[0])} is behind a URL and other shards beside it are on disk; "
            "name them as two sources, each with its own weight"
        )
    return open_remote(remote, cache or Cache(), missing=missing, max_bad=max_bad)
