"""The modality of a query: words, the path of a picture or a sound, or a picture or a sound for `Model.embed`."""

import os
from pathlib import Path
from typing import Any

from tercet.api.media import is_picture, is_sound
from tercet.errors import UserError
from tercet.modality import FILES

KNOWN = "a query is words, or the path of a picture or a sound"


def modality_of(query: Any) -> str:
    if isinstance(query, str | os.PathLike):
        return _named(query)
    if is_picture(query):
        return "image"
    if is_sound(query):
        return "audio"
    raise UserError(
        f"the query is of type {type(query).__name__}; {KNOWN}, a PIL image, pixels or (wave, rate). "
        "For anything else, name the modality, as in search(image=…)"
    )


def _named(query: str | os.PathLike[str]) -> str:
    """One word with the extension of a picture or a sound is a path, even if there is no such file."""
    words = os.fspath(query)
    if not words.strip():
        raise UserError(f"the query is empty; {KNOWN}")
    extension = Path(words).suffix[1:].lower()
    named = (modality for modality, extensions in FILES.items() if modality != "text" and extension in extensions)
    modality = next(named, "text")
    if os.path.isfile(words):  # pathlib's raises for words that are longer than a file name may be
        if modality == "text" and extension:
            raise UserError(f"{words} is not a picture or a sound; {KNOWN}")
        return modality
    if isinstance(query, os.PathLike) or (modality != "text" and not any(map(str.isspace, words))):
        raise UserError(f"there is no file {words}; {KNOWN}")
    return "text"
