"""What a rank reads from the disk, as the kernel counts it."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.shards.read import open_shards
from tests.data_pipelines.memory import INTAKES

SHARDS, SAMPLES = 16, 24
CAPTIONS = "the number is 7\n" * 2000


def bytes_read() -> int:
    (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
    return int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_each_rank_reads_only_its_share_of_the_bytes_and_shards(pack: Callable[..., Path], world: int) -> None:
    for shard in range(SHARDS):
        samples = [{"__key__": f"{shard}-{i}", "txt": CAPTIONS} for i in range(SAMPLES)]
        folder = pack(f"{shard:02d}.tar", samples).parent
    shards = open_shards(str(folder))
    epoch = SHARDS * SAMPLES
    read, touched = [], []
    for rank in range(world):
        data = DataConfig(train=str(folder), workers=0, streams=16)
        loader = Loader(data, {"train": shards}, INTAKES, 48, seed=0, rank=rank, world=world)
        before = bytes_read()
        ids = [id for batch in islice(loader, epoch // 48) for id in batch.ids.tolist()]
        read.append(bytes_read() - before)
        touched.append({id // SAMPLES for id in ids})
    assert [len(own) for own in touched] == [SHARDS // world] * world
    assert read == pytest.approx([epoch * len(CAPTIONS) / world] * world, rel=0.15)
