"""The generated world on disk: shards of three splits and `world.json`, which says what they hold.

`world.json` waits under another name until every shard stands. A second call finds it and draws nothing; a call after
an interrupted one draws the shards that are missing.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path

from tercet.data_pipelines.builtin.config import SPLITS, Split, WorldConfig
from tercet.data_pipelines.builtin.render import Members, render_shard
from tercet.data_pipelines.builtin.vocabulary import HELD_OUT, vocabulary
from tercet.data_pipelines.shards.write import write_shard
from tercet.errors import UserError

EDITION = 1  # raise it whenever the same config draws another world

Job = tuple[WorldConfig, Split, int]


def generate(config: WorldConfig, out: Path) -> Path:
    """Writes `out/{train,val,combinations}/000000.tar …` and `out/world.json`; returns `out`."""
    description = describe_world(config)
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


def _stands(out: Path, world: dict[str, object]) -> bool:
    """Whether the whole world is there; if not, leaves its description beside the shards to come."""
    complete, partial = out / "world.json", out / "world.json.partial"
    for path in (complete, partial):
        if path.exists() and json.loads(path.read_text()).get("digest") != world["digest"]:
            raise UserError(f"{out} holds another generated world: choose another folder, or delete this one")
        if path.exists():
            return path is complete
    if any(out.glob("*/*.tar")):
        raise UserError(f"{out} holds shards that were not generated here: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(world, indent=2) + "\n")
    return False


def _draw(config: WorldConfig, out: Path) -> None:
    jobs: list[Job] = [(config, split, shard) for split in SPLITS for shard in range(config.shards(split))]
    paths = {job: out / job[1] / f"{job[2]:06d}.tar" for job in jobs}
    jobs = [job for job in jobs if not paths[job].exists()]
    for job, samples in zip(jobs, _rendered(jobs, config.workers), strict=True):
        paths[job].parent.mkdir(exist_ok=True)
        write_shard(paths[job], samples)


def _rendered(jobs: list[Job], workers: int) -> Iterator[list[Members]]:
    """Shards in the order of their jobs. Spawned workers import no torch; this process writes what they draw."""
    if min(workers, len(jobs)) <= 1:
        yield from starmap(render_shard, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(render_shard, *zip(*jobs, strict=True))
