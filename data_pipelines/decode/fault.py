"""What is written down about a sample that cannot be used."""

from tercet.data_pipelines.bad_samples import Fault
from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.source import Source


def fault_of(source: Source, id: int, reason: str) -> Fault:
    """The file is the one that the reason is about, if it begins with a modality, or else the first of the sample."""
    shard, path = source.shard(id), redacted(source.path(id, reason.partition(":")[0]))
    return Fault(shard, source.key(id), id, reason, "" if path == shard else path)
