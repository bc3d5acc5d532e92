"""The content of a shard by the headers of its tar, which are read again: the index may be older than the damage."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.shards.address import is_url
from tercet.data_pipelines.shards.build import index_shard
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.index import ShardIndex, arrange, kind_of, kinds
from tercet.data_pipelines.shards.patience import Unreachable
from tercet.data_pipelines.shards.record import Record, load_index
from tercet.data_pipelines.shards.tar import DamagedShard, members
from tercet.data_pipelines.survey.content import content_hash
from tercet.modality import EXTENSIONS


@dataclass(frozen=True)
class Stock:
    """`damage` says what is wrong with the shard; a shard that cannot be read has no `record`."""

    shard: str
    record: Record | None = None
    damage: str = ""
    key_N: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))  # hashes
    kinds: Mapping[str, int] = field(default_factory=dict)  # samples that have a picture, a sound, a `.txt`, …
    files: Mapping[str, int] = field(default_factory=dict)  # by extension
    passed_over: Mapping[str, int] = field(default_factory=dict)  # files that are never read
    bytes: int = 0


def take_stock(shard: str) -> Stock:
    """A shard behind a URL is fetched."""
    try:
        local = str(Cache().fetch(shard)) if is_url(shard) else shard
        index, census = arrange(members(local))
    except DamagedShard as damaged:
        return Stock(shard, damage=damaged.what)
    except Unreachable:
        return Stock(shard, damage="it cannot be fetched")
    except OSError as error:
        return Stock(shard, damage=f"it cannot be read ({error.strerror})")
    record = index_shard(local)
    if isinstance(record, DamagedShard) or not load_index(record).lists_the_files_of(index):
        return Stock(shard, damage="its files are not those of its index; if that is meant, index it again")
    return Stock(shard, record, "", _keys(index), _kinds(index), census.files, census.passed_over, census.bytes)


def digest(shard: str) -> str:
    """The sha256 of all its bytes."""
    state, block = sha256(), bytearray(2**20)
    with open(shard, "rb") as file:
        while size := file.readinto(block):
            state.update(memoryview(block)[:size])
    return state.hexdigest()


def _keys(index: ShardIndex) -> NDArray[np.uint64]:
    keys, ends = index.key_K.tobytes(), index.key_first.tolist()
    return np.array([content_hash(keys[start:end]) for start, end in pairwise(ends)], dtype=np.uint64)


def _kinds(index: ShardIndex) -> Counter[str]:
    """How many samples have at least one file of each kind."""
    first = index.first.astype(np.int64)
    row_M = np.repeat(np.arange(len(index)), first[1:] - first[:-1])
    held: Counter[str] = Counter()
    for kind in kinds():
        codes = [code for code, extension in enumerate(EXTENSIONS) if kind_of(extension) == kind]
        if samples := len(np.unique(row_M[np.isin(index.code_M, codes)])):
            held[kind] = samples
    return held
