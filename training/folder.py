"""A run's folder: its path, its lock, and the check that a folder holds the same run as the recipe."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tercet.distributed import World
from tercet.errors import UserError
from tercet.plugins import note_plugins
from tercet.provenance import facts
from tercet.training.checkpoints.reader import CHECKPOINTS, CONFIG
from tercet.training.config import RunConfig
from tercet.training.recipe import dump, load_recipe
from tercet.whole_file import is_empty, remove_drafts, write_json, write_whole

LOCK, PROVENANCE = ".lock", "provenance.json"  # the versions, machine and commit that the run began with
FREE = (  # the keys that may change when a run resumes
    "out", "log", "checkpoint", "eval", "early_stopping", "zero", "micro_batch", "tile", "selection.record",
    "selection.bad", "data.workers", "data.worker", "data.val", "data.max_bad", "data.missing", "data.cache_gb",
    "data.mix", "data.weights", "data.train.*.weight", "data.train.*.repeat", "data.train.*.source",
    "data.train.*.list", "data.train.*.neighbors.graph", "data.train.*.clusters.column",  # the plan detects changes
)  # fmt: skip


def folder_of(config: RunConfig) -> Path:
    return Path(config.out or f"runs/{config.name}")


@contextmanager
def open_folder(config: RunConfig, world: World) -> Iterator[Path]:
    """Opens the run's folder. The first rank locks it until the run ends. If that fails, all ranks raise the error."""
    folder = folder_of(config)
    lock, problem = None, None
    if world.first:
        try:
            lock = _lock(folder, config)
        except UserError as error:
            problem = str(error)
    problem = world.broadcast(problem)
    if problem:
        raise UserError(problem)
    try:
        yield folder
    finally:
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, config: RunConfig) -> int:
    try:
        check_no_other_files(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        reason = error.strerror
        raise UserError(f"cannot write to the run's folder {folder} ({reason}); choose another with out=…") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"another run is using {folder}; wait until it ends, or choose another with out=…") from None
    check_same_run(config)
    remove_drafts(folder)
    write_whole(folder / CONFIG, dump(config))
    if not (folder / PROVENANCE).exists():
        write_json(folder / PROVENANCE, facts())
    note_plugins(folder)
    return lock


def check_no_other_files(folder: Path) -> None:
    """Raises `UserError` if the folder has files, but is not the folder of a run."""
    begun = (folder / CONFIG).exists() and any((folder / name).exists() for name in (LOCK, PROVENANCE))
    if folder.is_dir() and not begun and not is_empty(folder):
        raise UserError(f"{folder} has files that are not of a run; choose a new or an empty folder with out=…")


def check_same_run(config: RunConfig) -> None:
    """Raises `UserError` if the folder holds checkpoints of a run with other settings."""
    folder = folder_of(config)
    if not (folder / CHECKPOINTS).is_dir():
        return
    before, now = (flat(run.model_dump(mode="json")) for run in (load_recipe(str(folder / CONFIG)), config))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    changed = [key for key in changed if not any(fnmatch(key, free) or fnmatch(key, f"{free}.*") for free in FREE)]
    if changed:
        listed = ", ".join(f"{key} was {_shown(before.get(key))} and is {_shown(now.get(key))}" for key in changed[:4])
        more = f" (and {len(changed) - 4} more)" if len(changed) > 4 else ""
        raise UserError(
            f"{folder} holds another run: {listed}{more}; change this back, or start a new run with another out=…"
        )


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings under dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        leaves |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return leaves
