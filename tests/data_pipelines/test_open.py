"""Sources opened by several ranks: all index shards, and only the first indexes tables, however long that takes."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.distributed_c10d import _set_pg_timeout

from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.open import open_loader
from tercet.data_pipelines.shards import build
from tercet.data_pipelines.shards.tar import members
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources import opened as opening
from tercet.data_pipelines.sources.open import open_split
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.data_pipelines.stream.loader import StreamLoader
from tercet.distributed import World
from tercet.testing import on_ranks
from tests.data_pipelines.memory import INTAKES

SHARDS = 8


def scanned_by(world: World, source: str) -> list[str]:
    """The shards that this rank indexed. Both ranks begin each of their own shards at the same time."""
    scanned: list[str] = []

    def slowly(shard: str) -> object:
        if len(scanned) < SHARDS // world.size:
            world.barrier()
        scanned.append(Path(shard).name)
        return members(shard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "members", slowly)
        opened = OpenedSources().open_first(DataConfig(train=source), SplitConfig(source=source), world)
    assert len(opened) == SHARDS
    return scanned


def test_ranks_index_the_shards_together(pack: Callable[..., Path]) -> None:
    for shard in range(SHARDS):
        folder = pack(f"{shard}.tar", [{"__key__": "a", "txt": "one"}]).parent
    one, other = on_ranks(scanned_by, 2, str(folder))
    assert set(one) | set(other) == {f"{shard}.tar" for shard in range(SHARDS)}
    assert len(one) + len(other) <= SHARDS + 2  # each may begin the last shard of the other before it is indexed
    assert one[0] != other[0]


def samples_of_slow(world: World, source: str) -> int:
    """The timeout of collectives is half a second; the first rank takes two seconds to open the source."""
    _set_pg_timeout(timedelta(seconds=0.5))

    def slowly(data: DataConfig, split: SplitConfig, *rest: Any) -> Source:
        time.sleep(2 * world.first)
        return open_split(data, split, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "open_split", slowly)
        return len(OpenedSources().open_first(DataConfig(train=source), SplitConfig(source=source), world))


@pytest.mark.parametrize("kind", ["shards", "table"])
def test_ranks_wait_for_the_first_rank_longer_than_the_timeout_of_a_collective(
    pack: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,text\na.png,one\n")
    (tmp_path / "a.png").touch()
    source = table if kind == "table" else pack("0.tar", [{"__key__": "a", "txt": "one"}])
    assert on_ranks(samples_of_slow, 2, str(source)) == [1, 1]


@pytest.mark.parametrize(
    ("cursors", "place"), [({}, None), ({"train": 0}, 0), ({"train": 2}, 2), ({"before": 500}, None)], ids=str
)
def test_a_stream_resumes_at_its_place_with_a_message(
    pack: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cursors: dict[str, int],
    place: int | None,
) -> None:
    """Also at place 0. The cursor of another source, from an earlier stage, does not count."""
    data = DataConfig(train=str(pack("0.tar", [{"__key__": "a", "txt": "one"}])), mode="stream")
    loader = open_loader(data, INTAKES, 4, 0, World(), cursors, tmp_path)
    assert isinstance(loader, StreamLoader)
    assert loader.place == (place or 0)
    shown = capsys.readouterr().err
    assert shown == "" if place is None else f"resumes at shard {place} of" in shown
