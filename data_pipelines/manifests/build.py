"""Finds the index of a manifest, or builds it by reading the tables and folders once."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn

from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.manifests.copies import usual_copies
from tercet.data_pipelines.manifests.entry import Outcome
from tercet.data_pipelines.manifests.find import ManifestFile
from tercet.data_pipelines.manifests.gather import Gatherer
from tercet.data_pipelines.manifests.index import ManifestIndex
from tercet.data_pipelines.manifests.index_file import (
    IndexFile,
    find_index_file,
    new_place,
    save_index_file,
)
from tercet.data_pipelines.manifests.manifest import Manifest, check_files
from tercet.data_pipelines.manifests.medium import is_remote
from tercet.data_pipelines.manifests.reading import GROUP, Reading
from tercet.data_pipelines.manifests.rows import ManifestRows
from tercet.data_pipelines.manifests.watched import Watched
from tercet.data_pipelines.split import Marks, marks
from tercet.errors import UserError
from tercet.main_process import is_main_process
from tercet.modality import FILES, how_to_convert


def index_file_for(pieces: Sequence[ManifestFile], reading: Reading) -> IndexFile:
    """The index for these tables, read in this way."""
    return existing_index_file(pieces, reading) or _build(new_place(_name(pieces, reading)), pieces, reading)


def existing_index_file(pieces: Sequence[ManifestFile], reading: Reading) -> IndexFile | None:
    return find_index_file(_name(pieces, reading))


def _name(pieces: Sequence[ManifestFile], reading: Reading) -> str:
    return f"{pieces[0].index}.{_digest(pieces, reading)}"


def _digest(pieces: Sequence[ManifestFile], reading: Reading) -> str:
    """A digest of what an index depends on besides the content of the tables."""
    where = [os.path.relpath(piece.path, pieces[0].path) for piece in pieces]
    by = [reading.split_by] if reading.split_by == "file" else [reading.group, dict(reading.captions)]
    split = by if reading.part else []
    parts = [where, [piece.pattern for piece in pieces], asdict(reading.roles), reading.templates, split, list(FILES)]
    return blake2b(json.dumps(parts).encode(), digest_size=6).hexdigest()


def _build(place: Path, pieces: Sequence[ManifestFile], reading: Reading) -> IndexFile:
    loose = place.with_name(f".{place.name}.{uuid4().hex}")
    try:
        with loose.open("wb") as payload:
            gatherer = Gatherer(reading, payload)
            facts = _gathered(gatherer, pieces, reading)
        arrays = gatherer.arrays()
        if reading.part:
            roots = [piece.root for piece in pieces]
            rows = ManifestRows(
                ManifestIndex(arrays), roots, facts["counts"], str(loose), usual_copies() if facts["remote"] else None
            )
            arrays["mark"] = _marks(rows, gatherer, reading)
        return save_index_file(place, arrays, facts, loose if loose.stat().st_size else None)
    finally:
        loose.unlink(missing_ok=True)


def _gathered(gatherer: Gatherer, pieces: Sequence[ManifestFile], reading: Reading) -> dict[str, Any]:
    """Gives all rows to the gatherer, and returns facts about the whole."""
    roles, counts = reading.roles, []
    home = os.path.dirname(pieces[0].index)
    watched: Watched = {}
    unused: list[str] = []
    passed_over: Counter[str] = Counter()
    for piece in pieces:
        manifest = piece.open(roles)
        roles = manifest.roles  # all tables are read like the first
        unused = unused or manifest.unused
        before = len(gatherer)
        _gather(gatherer, piece, manifest, pieces[0].root)
        counts.append(len(gatherer) - before)
        watched |= {os.path.relpath(path, home): state for path, state in manifest.watched.items()}
        passed_over.update({} if piece.pattern else manifest.passed_over)
    if not sum(counts):
        label = pieces[0].label
        lines = [*how_to_convert(passed_over), *_shards_within(label), *_embeddings_in(label)]
        hints = "".join(f"; {line}" for line in lines)
        raise UserError(
            f"{label} contains no samples: no *.tar shards, and no pictures, sounds or rows that name some{hints}"
        )
    return {
        "counts": counts,
        "watched": watched,
        "roles": str(roles),
        "unused": unused,
        "left_out": dict(gatherer.left_out.most_common()),
        "passed_over": dict(passed_over.most_common()),
        "classes": len(gatherer.classes),
        "remote": gatherer.remote,
        "fingerprint": gatherer.fingerprint,
    }


def _shards_within(folder: str) -> list[str]:
    """Where shards are, if folders within this one hold some, as in the layout of CLIP_benchmark."""
    found = sorted({str(shard.parent) for shard in Path(folder).glob("*/*.tar")})
    return [f"folders within it have shards; name one, such as {found[0]}"] if found else []


def _embeddings_in(folder: str) -> list[str]:
    """What to name in place of a folder of embeddings."""
    found = any(Path(folder).glob("piece_*.safetensors"))
    return ["it holds embeddings; name the data that they were computed from"] if found else []


def _gather(gatherer: Gatherer, piece: ManifestFile, manifest: Manifest, first: str) -> None:
    """Adds the rows of one table or folder, with paths relative to the first."""
    root = piece.root
    if not is_remote(root):
        check_files(manifest)
        root = os.path.relpath(root or ".", first or ".")
    for outcome in _shown(manifest.entries(), piece.label):
        gatherer.add(manifest.name(outcome), outcome, root)


def _shown(outcomes: Iterable[Outcome], label: str) -> Iterable[Outcome]:
    """With a progress display on a terminal."""
    hidden = not (is_main_process() and sys.stderr.isatty())
    columns = SpinnerColumn(), TextColumn(f"indexing {escape(label)}"), TextColumn("{task.completed:,} rows")
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        yield from progress.track(outcomes, total=None)


def _marks(rows: ManifestRows, gatherer: Gatherer, reading: Reading) -> Marks:
    """What the samples are split by: their group, or else their picture or sound. Classes that captions are made of are
    not groups here, unless `group` is text: then every class is trained on, and other samples of it are held out."""
    group_N = np.full(len(gatherer), -1, dtype=np.int64)
    if reading.split_by != "file":
        group_of = GroupReader(reading.group, CaptionReader(reading.captions))
        samples = (rows.read([row], group_of.wanted)[0] for row in range(len(gatherer)))
        group_N[:] = list(group_of.each(samples))
        if reading.group == GROUP:
            group_N[np.array(gatherer.alike, dtype=np.int64)] = -1
    return marks(gatherer.identities, group_N)
