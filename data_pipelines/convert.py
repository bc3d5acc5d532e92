"""Published tests of composition as tables that tercet reads: SugarCrepe, SugarCrepe++, ARO and Winoground.

Each is a JSON file, or several, beside a folder of pictures. Its keys tell which test it is. A row of the table has a
picture, its right captions, `negatives` with the kind of each mistake, and `group`, so that questions about one picture
count as one observation. ARO asks about a box of each picture: the box is cut out and written beside the table.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.sidecar import write_rows
from tercet.data_pipelines.manifests.jsonl import read_jsonl
from tercet.errors import UserError

Row = dict[str, Any]
BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")


@dataclass(frozen=True)
class Converted:
    """The name of the test, and how many rows the table has."""

    test: str
    rows: int


def convert(files: Sequence[Path], images: Path, out: Path) -> Converted:
    """Writes the table, whose paths are relative to its folder."""
    tests, rows = set(), list[Row]()
    for file in files:
        for key, entry in _entries(file):
            test = _test_of(entry, file)
            tests.add(test)
            rows += _ROWS[test](key, entry, file, images, out)
    if len(tests) != 1:
        raise UserError(f"the files hold {' and '.join(sorted(tests)) or 'nothing'}; give the files of one test")
    write_rows(out, rows)
    return Converted(tests.pop(), len(rows))


def _entries(file: Path) -> Iterator[tuple[str, Row]]:
    """The entries with their keys: of an object, of a list, or one on each line."""
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if file.suffix == ".jsonl":
        for number, row in read_jsonl(file).rows():
            if isinstance(row, BadSample):
                raise UserError(f"{file}: line {number}: {row}")
            yield str(number), dict(row)
        return
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error})") from None
    for key, entry in listed.items() if isinstance(listed, dict) else enumerate(listed):
        if not isinstance(entry, dict):
            raise UserError(f"{file}: entry {key} is not an object with captions")
        yield str(key), entry


def _test_of(entry: Row, file: Path) -> str:
    for test, keys in _KEYS.items():
        if entry.keys() >= keys:
            return test
    known = "; ".join(f"{test}: {', '.join(sorted(keys))}" for test, keys in _KEYS.items())
    raise UserError(f"{file}: an entry has the keys {', '.join(entry)}, which no known test has ({known})")


def _sugarcrepe(key: str, entry: Row, file: Path, images: Path, out: Path) -> list[Row]:
    right = [entry[name] for name in ("caption", "caption2") if name in entry]
    negatives = [{"kind": file.stem, "text": entry["negative_caption"]}]
    picture = _picture(images / entry["filename"], out)
    return [{"key": f"{file.stem}/{key}", "image": picture, "caption": right, "negatives": negatives, "group": picture}]


def _aro(key: str, entry: Row, file: Path, images: Path, out: Path) -> list[Row]:
    kind = entry["relation_name"] if "relation_name" in entry else "_".join(entry["attributes"])
    negatives = [{"kind": kind, "text": entry["false_caption"]}]
    whole = images / entry["image_path"]
    cut = out.with_suffix("") / f"{file.stem}_{key}.png"
    _cut(whole, [int(entry[side]) for side in BOX], cut)
    return [
        {
            "key": f"{file.stem}/{key}", "image": _picture(cut, out), "caption": [entry["true_caption"]],
            "negatives": negatives, "group": _picture(whole, out),
        }
    ]  # fmt: skip


def _winoground(key: str, entry: Row, file: Path, images: Path, out: Path) -> list[Row]:
    pair = str(entry.get("id", key))
    kind = {"kind": entry["collapsed_tag"]} if entry.get("collapsed_tag") else {}
    return [
        {
            "key": f"{pair}_{side}", "image": _picture(_named(images, entry[f"image_{side}"]), out),
            "caption": [entry[f"caption_{side}"]], "pair": pair, "group": pair, **kind,
        }
        for side in (0, 1)
    ]  # fmt: skip


_KEYS: Mapping[str, set[str]] = {
    "Winoground": {"image_0", "image_1", "caption_0", "caption_1"},
    "ARO relation": {"image_path", "true_caption", "false_caption", "relation_name", *BOX},
    "ARO attribution": {"image_path", "true_caption", "false_caption", "attributes", *BOX},
    "SugarCrepe++": {"filename", "caption", "caption2", "negative_caption"},
    "SugarCrepe": {"filename", "caption", "negative_caption"},
}
_ROWS = {
    "Winoground": _winoground, "ARO relation": _aro, "ARO attribution": _aro, "SugarCrepe++": _sugarcrepe,
    "SugarCrepe": _sugarcrepe,
}  # fmt: skip


def _named(images: Path, name: str) -> Path:
    """Winoground names its pictures without `.png`."""
    return images / name if (images / name).suffix else images / f"{name}.png"


def _picture(path: Path, out: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path}: no such picture; name the folder of the pictures with --images")
    return Path(os.path.relpath(path, out.parent)).as_posix()


def _cut(whole: Path, box: Sequence[int], cut: Path) -> None:
    if cut.is_file():
        return
    x, y, width, height = box
    cut.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Image.open(whole) as picture:
            picture.convert("RGB").crop((x, y, x + width, y + height)).save(cut)
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{whole}: not a picture that can be read ({error})") from None
