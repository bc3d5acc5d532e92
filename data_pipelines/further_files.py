"""Further pictures and sounds of a sample beside its own, by a name: a picture of a wrong caption, another recording.

In shards, they are `KEY.NAME.jpg` or, if there are several, `KEY.NAME.0.jpg`, `KEY.NAME.1.jpg` and so on, with any
extension of a picture or sound, in lower case. The files of a sample have them under what follows the key, as
`NAME.0.jpg`.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from tercet.modality import FILES

PLACE = "file."  # begins the place of a field that is drawn from such files: file.NAME
NAME = re.compile(r"[a-z_][a-z0-9_-]*")
FILE = re.compile(rf"(?P<name>{NAME.pattern})(\.(?P<number>[0-9]{{1,4}}))?\.(?P<extension>\w+)")


class FurtherFile(NamedTuple):
    """Its name, its place in the list of files with this name, and its modality."""

    name: str
    number: int
    modality: str


def further_file(file: str) -> FurtherFile | None:
    """What a file is, from what follows the key in its name; None if it is not a further picture or sound."""
    found = FILE.fullmatch(file)
    modality = found and next((one for one, known in FILES.items() if found["extension"] in known), None)
    if not found or modality in (None, "text"):
        return None
    return FurtherFile(found["name"], int(found["number"] or 0), modality or "")


def wanted_as(name: str, modality: str) -> str:
    """How the further files of a name and a modality are listed among the wanted files of a sample."""
    return f"{name}.{modality}"


def is_wanted(file: str, wanted: Collection[str]) -> bool:
    """Whether a file is listed itself, or is a further file of a listed name."""
    further = further_file(file)
    return file in wanted or (further is not None and wanted_as(further.name, further.modality) in wanted)


def by_number(files: Iterable[str], name: str, modality: str) -> dict[int, str]:
    """The files of a sample with this name and modality, by their places in the list, in order."""
    parsed = ((further_file(file), file) for file in files)
    held = {one.number: file for one, file in parsed if one and (one.name, one.modality) == (name, modality)}
    return dict(sorted(held.items()))
