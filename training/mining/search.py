"""Finds the nearest candidates of every sample of a source, and keeps them in the cache piece by piece.

Each rank searches for its own pieces of queries, and reads all pieces of candidates one after the other. Other rules on
the same candidates need no new search.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tercet.data_pipelines.progress import with_progress
from tercet.distributed import World
from tercet.eval.embedding.store import Store
from tercet.training.mining.equal import Ids, MarkReader, Marks, kinds, marks_of
from tercet.training.mining.inverted_lists import InvertedLists, MarksById, build_index, load_faiss
from tercet.training.mining.nearest import Found, Nearest, Piece, own_scores
from tercet.training.mining.pieces import Arrays, Pieces
from tercet.training.mining.rules import Candidates

REQUEST = ("weights", "data", "transform", "dims")


@dataclass(frozen=True)
class Question:
    """Which samples are compared: the modality of the queries, that of the candidates, and how many are found."""

    query: str
    to: str
    depth: int
    use_faiss: bool = False

    def digest(self, store: Store) -> str:
        facts = [store.facts.get(name) for name in REQUEST]
        return _digest([self.query, self.to, self.depth, self.use_faiss, *kinds(), *facts])


class Search:
    """The nearest candidates of all samples of a store, as far as they are found."""

    def __init__(self, store: Store, question: Question, marks: Pieces, cache: Path) -> None:
        self.question, self._marks = question, marks
        self._pieces = Pieces(cache / "mining" / question.digest(store), marks.samples, marks.size)
        self._reader = _PieceReader(store, marks)

    def run(self, world: World) -> None:
        """Searches for what is missing. A collective."""
        missing = world.broadcast(self._pieces.missing())
        mine = missing[world.rank :: world.size]
        search = self._approximate(world) if self.question.use_faiss and missing else self._exact(world.device)
        for piece in with_progress(mine, "searching", len(mine)):
            queries = self._reader.piece(piece, self.question.query)
            own_q = own_scores(queries, self._reader.piece(piece, self.question.to))
            self._pieces.write(piece, _arrays(queries, search(queries), own_q))
        world.wait_for_all()

    def _exact(self, device: torch.device) -> Callable[[Piece], Found]:
        def search(queries: Piece) -> Found:
            nearest = Nearest(queries, self.question.depth, device)
            for other in range(len(self._marks)):
                nearest.add(self._reader.candidates(other, self.question.to))
            return nearest.found()

        return search

    def _approximate(self, world: World) -> Callable[[Piece], Found]:
        """A collective: the first rank builds the index."""
        load_faiss()
        path, to = self._pieces.folder / "candidates.faiss", self.question.to
        if world.first and not path.is_file():
            build_index(partial(self._reader.candidates, modality=to), len(self._marks), path)
        world.wait_for_all()
        marks = {kind: MarksById.of(self._reader.all_marks(kind)) for kind in kinds()}
        lists = InvertedLists(path, marks, self._reader.candidate_ids(to))
        return partial(lists.search, k=self.question.depth)

    def __iter__(self) -> Iterator[Candidates]:
        """The candidates of each piece, once all pieces exist."""
        for arrays in self._pieces:
            yield Candidates(arrays["id"], arrays["neighbors"], arrays["scores"], arrays["positive"])

    def counts(self) -> dict[str, int]:
        """Pairs of a query and another candidate, and how many of them are equal, by kind."""
        names = ["compared", *(f"equal.{kind}" for kind in kinds())]
        totals = dict.fromkeys(names, 0)
        for arrays in self._pieces:
            for name in names:
                totals[name] += int(arrays[name][0])
        return totals


def read_marks(reader: MarkReader, read_as: str, store: Store, cache: Path, world: World) -> Pieces:
    """The marks of all samples of a source, read by all ranks. `read_as`: what determines them. A collective."""
    samples, size = store.facts["samples"], store.facts["piece"]
    pieces = Pieces(cache / "mining" / f"marks-{_digest([read_as, samples, size, *kinds()])}", samples, size)
    mine = world.broadcast(pieces.missing())[world.rank :: world.size]
    for piece in with_progress(mine, "reading marks of equal samples", len(mine)):
        pieces.write(piece, reader(pieces.ids(piece)))
    world.wait_for_all()
    return pieces


class _PieceReader:
    """Reads the samples of a store with their vectors and marks. The ids of all samples stay in memory."""

    def __init__(self, store: Store, marks: Pieces) -> None:
        self._store, self._marks = store, marks
        self._repeated: dict[str, Ids] = {}

    @cached_property
    def _ids(self) -> list[Ids]:
        pieces = range(len(self._marks))
        return [np.array([sample.id for sample in self._store.samples(piece)], dtype=np.int64) for piece in pieces]

    def piece(self, piece: int, modality: str) -> Piece:
        """The samples that have the modality."""
        rows, item = self._store.rows(piece, modality)
        own, item = torch.unique(item, return_inverse=True)
        arrays = self._marks.read(piece)
        marks = {kind: marks_of(arrays, kind) for kind in kinds()}
        return Piece(self._ids[piece][own.numpy()], rows, item, marks)

    def candidates(self, piece: int, modality: str) -> Piece:
        """The same without samples that repeat the captions or the file of an earlier one."""
        whole = self.piece(piece, modality)
        first_n = torch.from_numpy(~np.isin(whole.id_n, self._repeats(modality)))
        kept_R = first_n[whole.item_R]
        item_R = (torch.cumsum(first_n, 0) - 1)[whole.item_R[kept_R]]
        return Piece(whole.id_n[first_n.numpy()], whole.rows_RD[kept_R], item_R, whole.marks)

    def all_marks(self, kind: str) -> Marks:
        found = [(arrays[kind], arrays[f"{kind}.id"]) for arrays in self._marks]
        return Marks.of(*(np.concatenate(columns) for columns in zip(*found, strict=True)))

    def candidate_ids(self, modality: str) -> Ids:
        return np.concatenate([self.candidates(piece, modality).id_n for piece in range(len(self._marks))])

    def _repeats(self, modality: str) -> Ids:
        if modality not in self._repeated:
            contents = [_contents(arrays, modality) for arrays in self._marks]
            code_n, id_n = (np.concatenate(columns) for columns in zip(*contents, strict=True))
            first = np.unique(code_n, return_index=True)[1]
            self._repeated[modality] = np.delete(id_n, first)
        return self._repeated[modality]


def _contents(arrays: Arrays, kind: str) -> tuple[NDArray[np.uint64], Ids]:
    """One code for all marks of each sample, whatever their order; ids are ascending."""
    id_n, at_m = np.unique(arrays[f"{kind}.id"], return_inverse=True)
    code_n = np.zeros(len(id_n), dtype=np.uint64)
    np.add.at(code_n, at_m, arrays[kind])
    return code_n, id_n


def _arrays(queries: Piece, found: Found, own_q: NDArray[np.float32]) -> Arrays:
    counts = {"compared": found.compared, **{f"equal.{kind}": found.equal[kind] for kind in kinds()}}
    return {
        "id": queries.id_n,
        "neighbors": found.id_qk,
        "scores": found.score_qk,
        "positive": own_q,
        **{name: np.array([count], dtype=np.int64) for name, count in counts.items()},
    }


def _digest(facts: list[object]) -> str:
    return blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()
