"""The modalities of a sample, and the files that hold each of them. A plugin adds its own.

`data_pipelines/decode` decodes the files that are listed here; `DECODERS` has the decoders of plugins.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, TypeVar

from tercet.errors import UserError, did_you_mean

Decode = TypeVar("Decode", bound=Callable[..., Any])

FILES: dict[str, tuple[str, ...]] = {  # extensions by modality; of several files of a sample, the first is taken
    "image": ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif"),
    "audio": ("flac", "wav", "ogg", "mp3", "opus", "aif", "aiff", "aifc"),
    "text": ("txt",),
}
CONVERT: dict[str, str] = {  # common files that are not read, and a command that converts them
    "svg": "rsvg-convert in.svg -o out.png",
    "heic": "heif-convert in.heic out.jpg",
    "heif": "heif-convert in.heif out.jpg",
    "jxl": "djxl in.jxl out.png",
    **{extension: f"ffmpeg -i in.{extension} out.flac" for extension in ("m4a", "aac", "wma", "amr", "mp4", "webm")},
}
MODALITIES = FILES.keys()  # those known so far
EXTENSIONS = [*chain.from_iterable(FILES.values()), "json", "cls"]  # of all files that are ever read
TOKENS = " tokens"  # ends the name of a field's tokens; no field has a space in its name
UNNORMALISED = " before normalisation"  # ends the name of a field's vectors that do not have length 1
PROJECTED = "@"  # in names of vectors, between the field and the projector; no field and no term has it in its name
DECODERS: dict[str, Callable[..., Any]] = {}  # by extension: (bytes of the file, the tower's intake, the view) → array
ALPHA = "alpha"  # the name of a mask that says where to look in a picture: KEY.alpha.png


def modality(name: str, *extensions: str) -> Callable[[Decode], Decode]:
    """Registers a modality with the function that decodes its files."""
    if name in MODALITIES:
        raise UserError(f"two modalities are named `{name}`; rename one of them")
    if not name.isidentifier() or name == "dim":
        raise UserError(f"`{name}` is not a valid name of a modality; use letters, digits and underscores")
    return _decoder(name, extensions)


def decoder(name: str, *extensions: str) -> Callable[[Decode], Decode]:
    """Registers more file extensions of a modality, with the function that decodes them."""
    if name not in MODALITIES:
        raise UserError(f"unknown modality `{name}`; {did_you_mean(name, MODALITIES)}")
    if name == "text":
        raise UserError("captions are read from `.txt` and `.json` only; a decoder cannot add another file")
    return _decoder(name, extensions)


def _decoder(name: str, extensions: tuple[str, ...]) -> Callable[[Decode], Decode]:
    for extension in extensions:
        if extension in EXTENSIONS:
            raise UserError(f"`.{extension}` already has a decoder; give the files of {name} another extension")

    def add(decode: Decode) -> Decode:
        FILES[name] = FILES.get(name, ()) + extensions
        EXTENSIONS.extend(extensions)
        DECODERS.update(dict.fromkeys(extensions, decode))
        return decode

    return add


def how_to_convert(extensions: Iterable[str]) -> list[str]:
    """A sentence for each kind of file that is common and not read."""
    known = sorted({extension.removeprefix(".").lower() for extension in extensions} & CONVERT.keys())
    return [f".{extension} files are not read; convert them first: {CONVERT[extension]}" for extension in known]


def modality_of(field_name: str) -> str:
    """The modality of a field: that of `text.rewrite` is `text`."""
    return field_name.partition(".")[0]


def tokens_of(field_name: str) -> str:
    """The name of a field's tokens, beside its vectors."""
    return f"{field_name}{TOKENS}"


def unnormalised_of(field_name: str) -> str:
    """The name of a field's vectors before normalisation, beside its unit vectors."""
    return f"{field_name}{UNNORMALISED}"


def projected(name: str, projector: str) -> str:
    """The name of vectors or tokens that went through a projector instead of into the joint space: `image@views`."""
    return f"{name}{PROJECTED}{projector}"


def field_of(name: str) -> str:
    """The field that vectors or tokens are of."""
    return name.partition(PROJECTED)[0].removesuffix(TOKENS).removesuffix(UNNORMALISED)


def projector_of(name: str) -> str:
    """The projector that vectors or tokens went through; empty if they are in the joint space."""
    return name.partition(PROJECTED)[2]


def are_tokens(name: str) -> bool:
    return name.partition(PROJECTED)[0].endswith(TOKENS)


def are_unnormalised(name: str) -> bool:
    return name.endswith(UNNORMALISED)


def is_negative(field_name: str) -> bool:
    """Whether rows of the field are wrong about their own item: `text.negative`, `text.negative.swap`. They repel the
    item's right rows, and these repel them."""
    return "negative" in field_name.split(".")[1:]


def of_memory(name: str) -> bool:
    """Whether these are vectors that a memory offers, such as `queue.image`, and no field of the batch."""
    return "." in name and modality_of(name) not in MODALITIES


def field_behind(name: str) -> str:
    """The batch's field that vectors are of: that of `queue.image` is `image`, and a field is its own."""
    return name.partition(".")[2] if of_memory(name) else name


def modality_of_vectors(name: str) -> str:
    """Of a batch's field, `text.negative`, or of what a memory holds of one, `queue.image`."""
    return modality_of(field_behind(name))
