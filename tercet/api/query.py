"""What a query is: words, the path of a picture or a sound, or one of these themselves, as `Model.embed` takes them."""

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
        f"{KNOWN}, a PIL image, pixels or (wave, rate), and not of type {type(query).__name__}; "
        "of anything else say what it is, as search(image=…)"
    )


def _named(query: str | os.PathLike[str]) -> str:
    """One word that ends as a file does is a path, and not words if there is no such file."""
    words = os.fspath(query)
    if not words.strip():
        raise UserError(f"the query is empty; {KNOWN}")
    extension = Path(words).suffix[1:].lower()
    named = (modality for modality, extensions in FILES.items() if modality != "text" and extension in extensions)
    modality = next(named, "text")
    if os.path.isfile(words):  # not pathlib's, which refuses words longer than a name may be
        if modality == "text" and extension:
            raise UserError(f"{words} is no file of a modality that can be searched for; {KNOWN}")
        return modality
    if isinstance(query, os.PathLike) or (modality != "text" and not any(map(str.isspace, words))):
        raise UserError(f"there is no file {words}; {KNOWN}")
    return "text"
