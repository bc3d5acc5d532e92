"""Samples that were kept, and samples that each rule dropped: pictures, sounds and captions small enough for a page.

They are not chosen by hand: a draw by the ids of the samples, always the same.
"""

import io
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import soundfile

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.curate.database import quoted
from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.decode.media import open_picture, open_sound
from tercet.data_pipelines.decode.still import rgb
from tercet.data_pipelines.source import Files, Source
from tercet.modality import FILES

SHOWN = 8  # samples of each kind
SIDE = 160  # pixels of a picture's longer side
SECONDS = 5.0  # of a sound


@dataclass(frozen=True)
class Example:
    """`image` and `audio`: URIs of their data. `scores`: names and values of what the rules look at."""

    name: str
    caption: str
    scores: tuple[tuple[str, str], ...]
    image: str = ""
    audio: str = ""
    times: int = 1


@dataclass(frozen=True)
class Examples:
    """`why`: the reason, or nothing for kept samples."""

    why: str
    count: int
    shown: tuple[Example, ...]


def examples_of(
    entering: Entering, decision: str, why: str | None, columns: Mapping[str, str], data: Mapping[str, Source]
) -> Examples:
    """`why`: none for kept samples. `columns`: what to show of a sample, by name; `caption` is its text."""
    named = {f"column{number}": text for number, text in enumerate(columns.values())}
    rows = entering.select({**named, "why": f"{decision}.why", "times": f"{decision}.count", "key": f"{decision}.key"})
    wanted = "why IS NULL" if why is None else f"why = {quoted(why)}"
    drawn = entering.query(f"SELECT * FROM ({rows}) WHERE {wanted} ORDER BY gumbel(source, id, 0) LIMIT {SHOWN}")
    shown = tuple(_example(row, dict(zip(columns, named, strict=True)), data) for row in drawn.to_pylist())
    (count,) = entering.query(f"SELECT count(*) AS samples FROM ({rows}) WHERE {wanted}").to_pylist()
    return Examples(why or "", count["samples"], shown)


def _example(row: Mapping[str, Any], columns: Mapping[str, str], data: Mapping[str, Source]) -> Example:
    scores = [(name, _said(row[key])) for name, key in columns.items() if name != "caption" and row[key] is not None]
    caption = str(row[columns["caption"]] or "") if "caption" in columns else ""
    files = _files(data[row["source"]], row["id"]) if row["source"] in data else {}
    name = row["key"] or f"{row['source']} {row['id']}"
    return Example(name, caption, tuple(scores), _image(files), _audio(files), row["times"])


def _said(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _files(source: Source, id: int) -> Files:
    wanted = {extension for kind in ("image", "audio") for extension in FILES[kind]}
    (found,) = source.read([id], wanted)
    return {} if isinstance(found, BadSample) else found


def _first(files: Files, kind: str) -> bytes | None:
    return next((files[extension] for extension in FILES[kind] if extension in files), None)


def _image(files: Files) -> str:
    content = _first(files, "image")
    if content is None:
        return ""
    buffer = io.BytesIO()
    try:
        picture = rgb(open_picture(content))
        picture.thumbnail((SIDE, SIDE))
        picture.save(buffer, "WEBP", quality=85)
    except (BadSample, OSError, ValueError):
        return ""
    return _uri(buffer.getvalue(), "image/webp")


def _audio(files: Files) -> str:
    content = _first(files, "audio")
    if content is None:
        return ""
    buffer = io.BytesIO()
    try:
        with open_sound(content) as sound:
            wave = sound.read(int(sound.samplerate * SECONDS), dtype="float32", always_2d=True).mean(axis=1)
            soundfile.write(buffer, wave, sound.samplerate, format="MP3")
    except (BadSample, soundfile.SoundFileError):
        return ""
    return _uri(buffer.getvalue(), "audio/mpeg")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
