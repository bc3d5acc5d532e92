"""`tercet.export`: writes a model into a folder that tercet or another library loads."""

import os
import shutil
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.api.model import Loadable, Model, name_of
from tercet.errors import UserError
from tercet.models.export.config import USUAL, format_of
from tercet.training.pretrained import open_model, space_of

DRAFT = ".partial"  # after the folder's name, until all files are written


@dataclass(frozen=True)
class Export:
    """What was written: the size in bytes of each file, and a line for each thing that the format cannot hold."""

    model: str
    folder: Path
    format: str
    files: dict[str, int]
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "folder": str(self.folder),
            "format": self.format,
            "files": self.files,
            "left_out": list(self.left_out),
        }

    def __str__(self) -> str:
        named = ", ".join(f"{name} ({size_of(size)})" for name, size in self.files.items())
        lines = (f"left out: {line}" for line in self.left_out)
        return "\n".join((f"{self.format}: {self.folder}: {named}", *lines))


def export(
    model: Loadable,
    folder: str | os.PathLike[str],
    format: str = USUAL,
    *,
    averaged: bool = True,
    **options: Any,
) -> Export:
    """Writes a model into a new folder. `format`: a name of `models/export/config.py`, with its options.

    Low-rank updates are merged into the weights. If a run kept averages of its weights, these are written, unless
    `averaged` is False.
    """
    name, into, written_as = name_of(model), Path(folder), format_of(format, options)
    _check_new(into)
    if isinstance(model, Model):
        _check_whole(model, averaged)
        towers, config = deepcopy(model.towers).cpu(), space_of(name)
    else:
        towers, config = open_model(name, averaged)
    draft = into.with_name(into.name + DRAFT)
    shutil.rmtree(draft, ignore_errors=True)  # of an export that was killed
    draft.mkdir(parents=True)
    left_out = written_as.write(towers, config, draft)
    draft.replace(into)
    return Export(name, into, format, sizes(into), tuple(left_out))


def sizes(folder: Path) -> dict[str, int]:
    """The size of each file in a folder, by its path within the folder."""
    files: Iterable[Path] = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def size_of(size: int) -> str:
    """Bytes in words."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def _check_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder; name a new folder")


def _check_whole(model: Model, averaged: bool) -> None:
    if not averaged:
        raise UserError(f"averaged=False chooses the weights of a run, but {model.name} is loaded; give its path")
    if model.dims is not None:
        raise UserError(f"{model.label}: an export has whole vectors; load the model without dims")
