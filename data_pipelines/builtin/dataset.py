"""Writes the generated world: shards of three splits, and `world.json`, which describes them.

`world.json` gets its name when all shards are complete. A second call finds it and draws nothing; a call after an
interruption draws the missing shards.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path

from tercet.data_pipelines.builtin.config import SPLITS, Split, WorldConfig
from tercet.data_pipelines.builtin.render import render_shard
from tercet.data_pipelines.builtin.vocabulary import HELD_OUT, vocabulary
from tercet.data_pipelines.shards.write import SampleFiles, write_shard
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import AHEAD, spawned
from tercet.errors import UserError
from tercet.system import LOCK_EX, flock
from tercet.whole_file import remove_drafts, write_json

EDITION = 2  # raise it whenever the same config gives another world


def generate(config: WorldConfig, out: Path) -> Path:
    """Writes `out/{train,val,combinations}/000000.tar …` and `out/world.json`; returns `out`."""
    description = describe_world(config)
    with _alone(out):
        if not _stands(out, description):
            _draw(config, out)
            os.replace(out / "world.json.partial", out / "world.json")
    return out


def describe_world(config: WorldConfig) -> dict[str, object]:
    world: dict[str, object] = {
        "edition": EDITION,
        "config": config.model_dump(mode="json", exclude={"workers"}),
        "vocabulary": vocabulary(),
        "held_out": sorted(HELD_OUT),
    }
    digest = blake2b(json.dumps(world, sort_keys=True).encode(), digest_size=16).hexdigest()
    return {**world, "digest": digest}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """A second process waits, and finds what the first has drawn."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


def _stands(out: Path, world: dict[str, object]) -> bool:
    """Whether the world is complete; if not, writes its description beside the shards."""
    complete, unfinished = out / "world.json", out / "world.json.partial"
    for path in (complete, unfinished):
        if path.exists() and json.loads(path.read_text()).get("digest") != world["digest"]:
            raise UserError(f"{out} contains another generated world; choose another folder, or delete this one")
        if path.exists():
            return path is complete
    if any(out.glob("*/*.tar")):
        raise UserError(f"{out} contains other shards; choose another folder")
    write_json(unfinished, world)
    return False


def _draw(config: WorldConfig, out: Path) -> None:
    for split in SPLITS:
        remove_drafts(out / split)
    shards = [(split, shard) for split in SPLITS for shard in range(config.shards(split))]
    paths = {(split, shard): out / split / f"{shard:06d}.tar" for split, shard in shards}
    missing = [shard for shard, path in paths.items() if not path.exists()]
    for shard, samples in zip(missing, _rendered(config, missing), strict=True):
        paths[shard].parent.mkdir(exist_ok=True)
        write_shard(paths[shard], samples)


def _rendered(config: WorldConfig, shards: list[tuple[Split, int]]) -> Iterator[list[SampleFiles]]:
    """The samples of the shards in order, drawn by other processes and written by this one."""
    workers = min(config.workers, len(shards))
    with spawned(workers, "draws scenes", "run the same command again to continue") as pool:
        yield from in_order(partial(_render, config), shards, pool, AHEAD * workers)


def _render(config: WorldConfig, shard: tuple[Split, int]) -> list[SampleFiles]:
    return render_shard(config, *shard)
