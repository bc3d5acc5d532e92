"""The modalities: what a field of a sample may be, and the files of a shard that hold it. A plugin adds its own.

How the house's own files are decoded stands in `data_pipelines/decode`; here are the decoders that plugins bring.
"""

from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

from tercet.errors import UserError, did_you_mean

Decode = TypeVar("Decode", bound=Callable[..., Any])

FILES: dict[str, tuple[str, ...]] = {  # extensions of the files that hold a modality, the first one there being taken
    "image": ("png", "jpg", "jpeg", "webp"),
    "audio": ("flac", "wav", "ogg", "mp3", "opus"),
    "text": ("txt",),
}
MODALITIES = FILES.keys()  # as many as are known by now
EXTENSIONS = [*chain.from_iterable(FILES.values()), "json", "cls"]  # of all files that are ever read
DECODERS: dict[str, Callable[..., Any]] = {}  # by extension: (a file's bytes, the tower's intake, the view) -> array


def modality(name: str, *extensions: str) -> Callable[[Decode], Decode]:
    """Adds a modality, by the function that decodes its files."""
    if name in MODALITIES:
        raise UserError(f"two modalities are named `{name}`; rename one of them")
    if not name.isidentifier() or name == "dim":
        raise UserError(f"`{name}` cannot name a modality; take letters, digits and underscores")
    return _decoder(name, extensions)


def decoder(name: str, *extensions: str) -> Callable[[Decode], Decode]:
    """Adds files that hold a modality, by the function that decodes them."""
    if name not in MODALITIES:
        raise UserError(f"unknown modality `{name}`; {did_you_mean(name, MODALITIES)}")
    if name == "text":
        raise UserError("captions are read from `.txt` and `.json`, and no decoder adds to these")
    return _decoder(name, extensions)


def _decoder(name: str, extensions: tuple[str, ...]) -> Callable[[Decode], Decode]:
    for extension in extensions:
        if extension in EXTENSIONS:
            raise UserError(f"`.{extension}` is decoded already; give the files of {name} another extension")

    def add(decode: Decode) -> Decode:
        FILES[name] = FILES.get(name, ()) + extensions
        EXTENSIONS.extend(extensions)
        DECODERS.update(dict.fromkeys(extensions, decode))
        return decode

    return add


def modality_of(field_name: str) -> str:
    """`text.rewrite` is of modality `text`."""
    return field_name.partition(".")[0]


def is_negative(field_name: str) -> bool:
    """Whether rows of the field are wrong about their own item: `text.negative`, `text.negative.swap`."""
    return "negative" in field_name.split(".")[1:]


def modality_of_vectors(name: str) -> str:
    """Of a batch's field, `text.negative`, or of what a memory holds of one, `queue.image`."""
    first, _, rest = name.partition(".")
    return first if first in MODALITIES else modality_of(rest)
