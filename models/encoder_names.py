"""Checks of encoder names that need no encoder library. Imports no torch."""

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from tercet.errors import UserError, did_you_mean

LAION_CLAP = {"audio": ("HTSAT-tiny", "HTSAT-base", "HTSAT-large"), "text": ("roberta",)}  # as its authors name them

LOCAL, OPEN_CLIP_CONFIG = "local-dir:", "open_clip_config.json"  # open_clip's name for a folder, and the file in it


def split_encoder(modality: str, encoder: str) -> tuple[str, str]:
    """FAMILY and NAME of `FAMILY:NAME`."""
    family, colon, name = encoder.partition(":")
    if not colon or not name:
        where = f"model.{modality}.encoder"
        raise UserError(f"{where}: `{encoder}` is not of the form FAMILY:NAME, such as `small:{modality}`")
    return family, name


def check_known_name(modality: str, encoder: str) -> None:
    """Rejects unknown names of the families small, open_clip and laion_clap. Others need their library for this."""
    family, name = split_encoder(modality, encoder)
    if family == "small":
        check_small_name(modality, name)
    if family == "laion_clap":
        check_laion_clap_name(modality, name)
    if family == "open_clip":
        check_open_clip_name(f"model.{modality}.encoder", name, _packaged_open_clip_names())


def check_small_name(modality: str, name: str) -> None:
    if name != modality:
        where = f"model.{modality}.encoder"
        raise UserError(f"{where}: no small {modality} tower is named `{name}`; write `small:{modality}`")


def check_open_clip_name(where: str, name: str, known: Collection[str]) -> None:
    if name.startswith(LOCAL):
        folder = Path(name.removeprefix(LOCAL))
        if not (folder / OPEN_CLIP_CONFIG).is_file():
            raise UserError(f"{where}: the folder {folder} has no {OPEN_CLIP_CONFIG}; name a folder of open_clip")
        return
    if name not in known:
        raise UserError(f"{where}: open_clip has no model `{name}`; {did_you_mean(name, known)}")


def check_laion_clap_name(modality: str, name: str) -> None:
    known = LAION_CLAP.get(modality, ())
    if name not in known:
        fix = did_you_mean(name, known) if known else "LAION-CLAP has towers for audio and text"
        raise UserError(f"model.{modality}.encoder: LAION-CLAP has no {modality} tower `{name}`; {fix}")


def _packaged_open_clip_names() -> list[str]:
    """The names of the JSON files in the open_clip package: one per model."""
    package = find_spec("open_clip")
    folders = package.submodule_search_locations if package else None
    return [file.stem for folder in folders or () for file in Path(folder, "model_configs").glob("*.json")]
