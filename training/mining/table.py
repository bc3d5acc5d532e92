"""The negatives as a table of captions and paths, in the formats of `mine_hard_negatives` of sentence-transformers."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import MetaReader
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.preflight.modalities import held_modalities
from tercet.data_pipelines.source import Files, Source
from tercet.errors import UserError
from tercet.training.mining.config import Format, MiningConfig
from tercet.training.mining.equal import Ids
from tercet.training.mining.nearest import NONE
from tercet.training.mining.pieces import Pieces
from tercet.training.mining.rules import Candidates, Negatives
from tercet.whole_file import whole_file

Row = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """An anchor with its positive and its negatives, as text, and their scores, that of the positive first."""

    anchor: str
    positive: str
    negatives: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def documents(self) -> tuple[str, ...]:
        return (self.positive, *self.negatives)

    @property
    def labels(self) -> list[int]:
        return [1] + [0] * len(self.negatives)


def _triplets(group: Group, count: int, scored: bool) -> Iterator[Row]:
    first, *others = group.scores
    for negative, score in zip(group.negatives, others, strict=True):
        row = {"anchor": group.anchor, "positive": group.positive, "negative": negative}
        yield {**row, "scores": [first, score]} if scored else row


def _tuples(group: Group, count: int, scored: bool) -> Iterator[Row]:
    """Only of samples that have all negatives, because every row has the same columns."""
    if len(group.negatives) == count:
        numbered = {f"negative_{number}": one for number, one in enumerate(group.negatives, 1)}
        row = {"anchor": group.anchor, "positive": group.positive, **numbered}
        yield {**row, "scores": list(group.scores)} if scored else row


def _pairs(group: Group, count: int, scored: bool) -> Iterator[Row]:
    name, values = ("score", group.scores) if scored else ("label", group.labels)
    for document, value in zip(group.documents, values, strict=True):
        yield {"anchor": group.anchor, "document": document, name: value}


def _lists(group: Group, count: int, scored: bool) -> Iterator[Row]:
    values = {"scores": list(group.scores)} if scored else {"labels": group.labels}
    if group.negatives:
        yield {"anchor": group.anchor, "documents": list(group.documents), **values}


ROWS: Mapping[str, Callable[[Group, int, bool], Iterator[Row]]] = {
    "triplet": _triplets,
    "n-tuple": _tuples,
    "labeled-pair": _pairs,
    "labeled-list": _lists,
}


class Written:
    """How samples are written: a caption as its words, a picture or a sound as its path.

    Anchors are written as the modality of the queries. Positives and negatives are written as that of the candidates;
    where this is the same, as another that the data hold, because the positive would be the anchor itself.
    """

    def __init__(self, source: Source, split: SplitConfig, query: str, to: str, marks: Pieces) -> None:
        self._source, self._marks = source, marks
        self._meta, self._captions = MetaReader(split.sidecar), CaptionReader(split.captions)
        self._holders: dict[str, Ids] = {}
        self.anchor, self.document = query, to
        if query == to:
            others = [name for name in held_modalities(split, source) if name != query]
            if not others:
                raise UserError(
                    f"--format needs pairs, and the data hold only {query}: compare them with another modality, or "
                    "leave --format out and use the graph"
                )
            self.document = "text" if "text" in others else others[0]

    def groups(self, candidates: Candidates, negatives: Negatives) -> Iterator[Group]:
        """Without samples that lack a modality."""
        ids = sorted({*candidates.id_q.tolist(), *negatives.id_qK.flatten().tolist()} - {NONE})
        anchors, documents = self._texts(candidates.id_q.tolist(), self.anchor), self._texts(ids, self.document)
        positives = candidates.positive_q.tolist()
        rows = zip(
            candidates.id_q.tolist(), positives, negatives.id_qK.tolist(), negatives.score_qK.tolist(), strict=True
        )
        for id, own, others, scores in rows:
            if anchors.get(id) and documents.get(id):
                found = [
                    (documents[one], score) for one, score in zip(others, scores, strict=True) if documents.get(one)
                ]
                texts, numbers = tuple(text for text, _ in found), tuple(score for _, score in found)
                yield Group(anchors[id], documents[id], texts, (own, *numbers))

    def _texts(self, ids: Sequence[int], modality: str) -> dict[int, str]:
        if modality == "text":
            files = self._source.read(ids, self._captions.wanted | {"json"})
            return {id: self._caption(id, one) for id, one in zip(ids, files, strict=True)}
        held = np.isin(ids, self._holding(modality))
        return {id: self._path(id, modality) for id, there in zip(ids, held.tolist(), strict=True) if there}

    def _caption(self, id: int, files: Files | BadSample) -> str:
        """The first caption, or an empty one."""
        if isinstance(files, BadSample):
            return ""
        try:
            captions = self._captions(files, self._meta(self._source.key(id), files))
            return captions.all[0] if captions else ""
        except BadSample:
            return ""

    def _holding(self, modality: str) -> Ids:
        """The samples that have a picture or a sound."""
        if modality not in self._holders:
            self._holders[modality] = np.concatenate([arrays[f"{modality}.id"] for arrays in self._marks])
        return self._holders[modality]

    def _path(self, id: int, modality: str) -> str:
        """A sample within a shard or a table is written as PATH#KEY."""
        path = self._source.path(id, modality)
        return f"{path}#{self._source.key(id)}" if path == self._source.shard(id) else path


class TableFile:
    """Writes rows as JSON lines or, if the name ends with .csv, as CSV, where a list is JSON in one cell."""

    def __init__(self, file: IO[str], format: Format, config: MiningConfig, commas: bool) -> None:
        self._file, self._rows, self._config = file, ROWS[format], config
        self._csv = csv.writer(file) if commas else None
        self._begun = False

    def add(self, groups: Iterable[Group]) -> None:
        for group in groups:
            for row in self._rows(group, self._config.num_negatives, self._config.output_scores):
                self._write(row)

    def _write(self, row: Row) -> None:
        if self._csv is None:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            if not self._begun:
                self._csv.writerow(row)
            self._csv.writerow([json.dumps(cell) if isinstance(cell, list) else cell for cell in row.values()])
        self._begun = True


@contextmanager
def table_file(path: Path, config: MiningConfig) -> Iterator[TableFile | None]:
    """The table of a config, if it asks for one. It appears under its name when it is complete."""
    if config.output_format is None:
        yield None
        return
    with (
        whole_file(path) as draft,
        draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield TableFile(file, config.output_format, config, path.suffix == ".csv")
