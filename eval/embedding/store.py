"""The embeddings of a dataset on disk, in pieces of 4,096 samples by id. A piece is written whole or not at all.

    FOLDER/manifest.json               fingerprints of weights, data and transform; at the end also the totals
    FOLDER/piece_00000000.safetensors  samples 0 to 4095: for each modality unit vectors `image` [n, d] in fp32 and
                                       which of the samples each belongs to, `image.item` [n]; as JSON in bytes the
                                       `samples`, by id, and the `faults` of those that are not among them

An interrupted command continues after the pieces that exist. Pieces do not depend on the number of ranks, because a
batch never crosses the end of a piece.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from tercet.data_pipelines.bad_samples import Fault
from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.modality import MODALITIES
from tercet.whole_file import is_empty, write_json, write_whole

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Request:
    """Fingerprints of what determines every vector, and the number of samples of the data and of a piece."""

    weights: str
    data: str
    transform: str
    samples: int
    piece: int
    dims: int | None = None  # to which all vectors are cut

    @property
    def digest(self) -> str:
        return blake2b(json.dumps(self.facts).encode(), digest_size=16).hexdigest()

    @property
    def facts(self) -> dict[str, str | int]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class StoredPart:
    """The embeddings of a range of ids, and the samples that could not be used."""

    table: EmbeddingTable
    faults: tuple[Fault, ...]


class Store:
    """The embeddings of one request, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = _read_manifest(folder)

    @classmethod
    def begin(cls, folder: Path, request: Request) -> "Store":
        """Creates or continues the folder of this request. Fails on any other folder with files."""
        if not is_empty(folder) and not (folder / MANIFEST).is_file():  # another rank may just have begun
            raise UserError(f"{folder} has files that are not embeddings; name a new or an empty folder")
        if not (folder / MANIFEST).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / MANIFEST, request.facts)
        store = cls(folder)
        changed = [name for name, value in asdict(request).items() if store.facts.get(name) != value]
        if changed:
            raise UserError(
                f"{folder} holds the embeddings of another request ({', '.join(changed)} changed); "
                "name another folder, or remove this one"
            )
        return store

    @property
    def complete(self) -> bool:
        return "modalities" in self.facts

    @property
    def modalities(self) -> list[str]:
        return list(self.facts["modalities"])

    @property
    def summary(self) -> str:
        """A summary in one line."""
        if not self.complete:
            return f"{len(self.missing()):,} pieces are missing; run the same request again to continue"
        held = [f"{name} {found['rows']:,} × {found['dim']}" for name, found in self.facts["modalities"].items()]
        return f"{', '.join(held)}; {self.facts['left_out']:,} samples left out"

    def __repr__(self) -> str:
        return f"Store({self.folder}: {self.summary})"

    @property
    def pieces_count(self) -> int:
        return -(-int(self.facts["samples"]) // int(self.facts["piece"]))

    def missing(self) -> list[range]:
        """The ids of the pieces that do not exist yet."""
        count, size = self.facts["samples"], self.facts["piece"]
        stretches = [range(start, min(start + size, count)) for start in range(0, count, size)]
        return [ids for ids in stretches if not self._place(ids.start).is_file()]

    def add(self, ids: range, piece: StoredPart) -> None:
        table = piece.table
        tensors = {name: rows.contiguous() for name, rows in table.vectors.items()}
        tensors |= {f"{name}.item": items.contiguous() for name, items in table.items.items()}
        tensors["samples"] = _bytes(list(map(_without_media, table.samples)))
        tensors["faults"] = _bytes([asdict(fault) for fault in piece.faults])
        write_whole(self._place(ids.start), save(tensors))

    def finish(self) -> None:
        """Writes the totals to the manifest, once all pieces exist."""
        counts, dims = Counter[str](), dict[str, int]()
        for piece in self.pieces():
            counts.update(embedded=len(piece.table.samples), left_out=len(piece.faults))
            for name, rows in piece.table.vectors.items():
                counts[name] += len(rows)
                dims[name] = rows.shape[1]
        found = {name: {"rows": counts[name], "dim": dims[name]} for name in MODALITIES if name in dims}
        self.facts |= {"embedded": counts["embedded"], "left_out": counts["left_out"], "modalities": found}
        write_json(self.folder / MANIFEST, self.facts)

    def pieces(self) -> Iterator[StoredPart]:
        """The pieces in the order of ids, one in memory at a time."""
        yield from map(_read_piece, self._places())

    def vectors(self, modality: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The vectors of one modality in each piece, and the sample of each. Reads nothing else."""
        return (self.rows(piece, modality) for piece in range(len(self._places())))

    def rows(self, piece: int, modality: str) -> tuple[Tensor, Tensor]:
        """The vectors of one modality in a piece, and the sample of each."""
        with safe_open(self._place(piece * self.facts["piece"]), framework="pt") as file:
            if modality in file.keys():  # noqa: SIM118  # not a mapping
                return file.get_tensor(modality), file.get_tensor(f"{modality}.item")
            return torch.empty(0, self.facts["modalities"][modality]["dim"]), torch.empty(0, dtype=torch.int64)

    def samples(self, piece: int) -> tuple[Sample, ...]:
        with safe_open(self._place(piece * self.facts["piece"]), framework="pt") as file:
            return _samples(file.get_tensor("samples"))

    @property
    def faults(self) -> list[Fault]:
        return [fault for piece in self.pieces() for fault in piece.faults]

    def table(self) -> EmbeddingTable:
        """The whole store in memory, as an evaluation needs it."""
        tables = [piece.table for piece in self.pieces()]
        starts = [0, *accumulate(len(table.samples) for table in tables)]
        vectors, items = {}, {}
        for name in self.modalities:
            held = [(table, start) for table, start in zip(tables, starts, strict=False) if name in table.vectors]
            vectors[name] = torch.cat([table.vectors[name] for table, _ in held])
            items[name] = torch.cat([table.items[name] + start for table, start in held])
        return EmbeddingTable(vectors, items, tuple(sample for table in tables for sample in table.samples))

    def _places(self) -> list[Path]:
        return sorted(self.folder.glob("piece_*.safetensors"))

    def _place(self, first: int) -> Path:
        return self.folder / f"piece_{first:08d}.safetensors"


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{folder} holds no embeddings; create them with `tercet embed`") from None
    return facts


def _read_piece(path: Path) -> StoredPart:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    samples = _samples(tensors.pop("samples"))
    faults = tuple(Fault(**one) for one in _parsed(tensors.pop("faults")))
    items = {name.removesuffix(".item"): tensors[name] for name in tensors if name.endswith(".item")}
    return StoredPart(EmbeddingTable({name: tensors[name] for name in items}, items, samples), faults)


def _samples(data: Tensor) -> tuple[Sample, ...]:
    return tuple(Sample(**{**one, "text": tuple(one["text"])}) for one in _parsed(data))


def _without_media(sample: Sample) -> Mapping[str, object]:
    """What the store keeps of a sample beside its vectors. Wrong captions are in its meta."""
    return {"key": sample.key, "id": sample.id, "group": sample.group, "text": sample.text, "meta": sample.meta}


def _bytes(value: object) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _parsed(data: Tensor) -> Any:
    return json.loads(data.numpy().tobytes())
