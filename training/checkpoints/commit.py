"""The commit protocol: a checkpoint with its final name is always complete. Episodes are committed in the same way.

1. All ranks write their files to `step_N.tmp/` and sync them.
2. The first rank writes a manifest with the size and SHA-256 of each file.
3. It renames the folder to `step_N/` and syncs the parent folder. Only then may older checkpoints be deleted.

No file points to the newest checkpoint: it is the newest folder whose files match its manifest.
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
from tercet.whole_file import sync, write_json

MANIFEST = "manifest.json"
NAME = re.compile(r"step_(\d+)")


@dataclass(frozen=True)
class Found:
    """The newest valid checkpoint, if any, and the damaged ones that are newer, each with the reason."""

    path: Path | None
    damaged: tuple[str, ...]


def commit(
    parent: Path,
    step: int,
    write: Callable[[Path], None],
    about: dict[str, Any],
    world: World,
    what: str = "a checkpoint",
) -> Path:
    """Commits one checkpoint from every rank's `write(folder)`, or none if a rank fails. A collective.

    `what`: the name of what is written, for an error.
    """
    final = place(parent, step)
    draft = final.with_name(f"{final.name}.tmp")
    if world.first:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    world.barrier()
    _together(world, lambda: write(draft), draft, what)
    _together(world, lambda: _seal(draft, final, about) if world.first else None, draft, what)
    return final


def place(parent: Path, step: int) -> Path:
    """The folder of a step's checkpoint, whether or not it exists."""
    return parent / f"step_{step:08d}"


def _together(world: World, act: Callable[[], None], draft: Path, what: str) -> None:
    """Calls `act` on every rank. If it fails on one rank, the draft is deleted and all ranks raise. A collective."""
    try:
        act()
        problem = None
    except (OSError, SafetensorError) as error:
        problem = f"rank {world.rank}: {error}"
    problems = [found for found in world.gather_objects(problem) if found]
    if problems:
        if world.first:
            shutil.rmtree(draft, ignore_errors=True)
        raise UserError(
            f"cannot write {what} ({'; '.join(problems)}). The last one is intact. "
            "Fix this and run the same command again"
        )


def _seal(draft: Path, final: Path, about: dict[str, Any]) -> None:
    parts = sorted(draft.rglob("*"))
    files = {path.relative_to(draft).as_posix(): fingerprint(path) for path in parts if path.is_file()}
    write_json(draft / MANIFEST, {**about, "files": files})
    for path in (*(path for path in parts if path.is_dir()), draft):
        sync(path)
    if final.exists():  # the run resumed from an older checkpoint and reached this step again
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


def committed(parent: Path) -> list[Path]:
    """The folders of all checkpoints, the newest first."""
    named = [path for path in parent.glob("step_*") if NAME.fullmatch(path.name)]
    return sorted(named, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step of a committed checkpoint."""
    return int(path.name.removeprefix("step_"))


def newest(parent: Path) -> Found:
    damaged: list[str] = []
    for path in committed(parent):
        problem = flaw(path)
        if problem is None:
            return Found(path, tuple(damaged))
        damaged.append(f"{path.name} ({problem})")
    return Found(None, tuple(damaged))


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
            return f"{name} does not match its manifest"
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    return manifest


def prune(parent: Path, keep: int, spared: int | None = None) -> None:
    """Deletes all checkpoints but the newest `keep` and that of step `spared`. Call it after a commit."""
    for path in committed(parent)[keep:]:
        if spared is None or path != place(parent, spared):
            shutil.rmtree(path)
