"""The commit protocol: a checkpoint with its final name is always complete.

Files are written to `step_N.tmp/` and synced, a manifest with every size and sha256 follows, then the folder is renamed
and its parent synced; only then may older ones go. No pointer file says which is newest: what verifies does.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tercet.distributed import World
from tercet.errors import UserError

MANIFEST = "manifest.json"
NAME = re.compile(r"step_(\d+)")


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that verifies, if any, and those that do not, each with the reason."""

    path: Path | None
    passed_over: tuple[str, ...]


def commit(parent: Path, step: int, write: Callable[[Path], None], about: dict[str, Any], world: World) -> Path:
    """Makes one checkpoint of every rank's `write(folder)`, or none if a rank fails. A collective."""
    final = place(parent, step)
    draft = final.with_name(f"{final.name}.tmp")
    if world.first:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    world.barrier()
    _together(world, lambda: write(draft), draft)
    _together(world, lambda: _seal(draft, final, about) if world.first else None, draft)
    return final


def place(parent: Path, step: int) -> Path:
    """The folder of a step's checkpoint, whether or not it exists."""
    return parent / f"step_{step:08d}"


def _together(world: World, act: Callable[[], None], draft: Path) -> None:
    """If one rank cannot write, no rank keeps its part."""
    try:
        act()
        problem = None
    except (OSError, SafetensorError) as error:
        problem = f"rank {world.rank}: {error}"
    problems = [found for found in world.gather_objects(problem) if found]
    if problems:
        if world.first:
            shutil.rmtree(draft, ignore_errors=True)
        told = "; ".join(problems)
        raise UserError(
            f"cannot write a checkpoint ({told}). The last one is intact. Fix this and run the same command again"
        )


def _seal(draft: Path, final: Path, about: dict[str, Any]) -> None:
    files = {path.name: fingerprint(path) for path in sorted(draft.iterdir())}
    write_synced(draft / MANIFEST, json.dumps({**about, "files": files}, indent=2).encode())
    sync(draft)
    if final.exists():  # the run has been at this step before, and resumed from an older checkpoint
        os.rename(final, unused(final))
    os.rename(draft, final)
    sync(final.parent)


def unused(path: Path) -> Path:
    """A free name next to `path`, for a checkpoint that is moved aside."""
    count = 1
    while (aside := path.with_name(f"{path.name}.aside{count}")).exists():
        count += 1
    return aside


def fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def committed(parent: Path) -> list[Path]:
    """The folders of all checkpoints, the newest first."""
    named = [path for path in parent.glob("step_*") if NAME.fullmatch(path.name)]
    return sorted(named, key=lambda path: int(path.name.removeprefix("step_")), reverse=True)


def newest(parent: Path) -> Found:
    passed_over: list[str] = []
    for path in committed(parent):
        fault = flaw(path)
        if fault is None:
            return Found(path, tuple(passed_over))
        passed_over.append(f"{path.name} ({fault})")
    return Found(None, tuple(passed_over))


def flaw(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None if every file matches its manifest."""
    try:
        files = read_manifest(path)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "its manifest cannot be read"
    for name, expected in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if fingerprint(path / name) != expected:
            return f"{name} is not as it was written"
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    return manifest


def prune(parent: Path, keep: int, spared: int | None = None) -> None:
    """Removes all but the newest `keep` checkpoints and that of step `spared`. Call it after a commit."""
    for path in committed(parent)[keep:]:
        if spared is None or path != place(parent, spared):
            shutil.rmtree(path)
