"""`tercet.export`: writes a model into a folder that tercet or another library loads."""

import os
import shutil
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.api.model import Loadable, Model, name_of
from tercet.errors import UserError
from tercet.models.export.config import USUAL, ExportConfig, format_of
from tercet.models.export.reading import Samples
from tercet.training.card.card import CARD, LICENSE, About, card
from tercet.training.card.run import run_facts
from tercet.training.pretrained import open_model, space_of

ROUNDING = 1e-5  # by which a component of a unit vector may differ
DRAFT = ".partial"  # after the folder's name, until all files are written


@dataclass(frozen=True)
class Export:
    """What was written: the size in bytes of each file, and a line for each thing that the format cannot hold.

    `difference`: the largest one between a component of a vector that the other library makes from the folder, and
    that of the model; None for tercet's own format.
    """

    model: str
    folder: Path
    format: str
    files: dict[str, int]
    left_out: tuple[str, ...]
    difference: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "folder": str(self.folder),
            "format": self.format,
            "files": self.files,
            "left_out": list(self.left_out),
            "difference": self.difference,
        }

    def __str__(self) -> str:
        named = ", ".join(f"{name} ({size_of(size)})" for name, size in self.files.items())
        lines = [f"left out: {line}" for line in self.left_out]
        if self.difference is not None:
            lines.append(f"read back by {self.format}: its vectors differ by {self.difference:.1e} at most")
        return "\n".join((f"{self.format}: {self.folder}: {named}", *lines))


def export(
    model: Loadable,
    folder: str | os.PathLike[str],
    format: str = USUAL,
    *,
    averaged: bool = True,
    license: str = LICENSE,
    datasets: Sequence[str] = (),
    **options: Any,
) -> Export:
    """Writes a model into a new folder, and a card about it.

    `format`: a name of `models/export/config.py`, with its options.

    Low-rank updates are merged into the weights. If a run kept averages of its weights, these are written, unless
    `averaged` is False. The library that the format is for then reads the folder: if its vectors of a few samples
    differ by more than rounding, this is an error. `license` and `datasets` are for the card, as a hub names them.
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
    try:
        left_out = written_as.write(towers, config, draft)
        difference = _difference(Model(towers, name), written_as, draft)
        about = About(Path(name).name or name, format, averaged, license, tuple(datasets), tuple(left_out))
        (draft / CARD).write_text(card(towers, config, run_facts(name), about), encoding="utf-8")
        for path in draft.rglob("*"):
            if path.is_file():
                shutil.copymode(draft / CARD, path)  # safetensors lets only its owner read a file
        draft.replace(into)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # there is one only after an error
    return Export(name, into, format, sizes(into), tuple(left_out), difference)


def _difference(model: Model, format: ExportConfig, folder: Path) -> float | None:
    """How far the other library is from the model, or an error if that is more than rounding."""
    given = Samples()
    found = format.read(folder, given)
    if found is None:
        return None
    asked: dict[str, Any] = {modality: given.of(modality) for modality in found.vectors}
    ours = model.embed(**asked)
    difference = max(float((ours[one].cpu() - theirs).abs().max()) for one, theirs in found.vectors.items())
    if not difference <= ROUNDING:
        raise UserError(
            f"{folder} gives other vectors than {model.name}: they differ by {difference:.1e}, more than "
            f"{ROUNDING:.0e}; do not use this folder; export the model as safetensors"
        )
    return difference


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
