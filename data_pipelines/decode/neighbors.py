"""The captions of a sample's neighbours in a graph, as the rows of a field: hard negatives that a model has found.

The graph is the column `neighbors` [n, K] that `tercet data mine` writes: ids of the same source, and -1 for none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import MetaReader
from tercet.data_pipelines.columns import has_column, read_pieces, read_values
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.transforms.crop import View
from tercet.errors import UserError

COLUMN = "neighbors"


class NeighborCaptions:
    """Adds a field to samples: one caption of each of some neighbours, which are drawn anew each epoch.

    A neighbour without captions, or one that cannot be read, gives no row.
    """

    def __init__(self, field: FieldSpec, source: Source, config: SplitConfig) -> None:
        assert field.graph is not None
        self._field, self._source, self._graph = field, source, Path(field.graph)
        self._captions = CaptionReader(config.captions, templates=config.keyword_templates, least=config.min_words)
        self._meta = MetaReader(config.sidecar)
        self._check()

    def added(self, samples: Sequence[Sample | BadSample], views: Sequence[View]) -> list[Sample | BadSample]:
        """The samples with their rows; a sample without any does not have the field."""
        ids = [one.id for one in samples if isinstance(one, Sample)]
        neighbors = read_values(self._graph, self._source.fingerprint, COLUMN, ids)
        chosen = [
            self._chosen(neighbors[one.id].tolist(), view) if isinstance(one, Sample) and one.id in neighbors else []
            for one, view in zip(samples, views, strict=True)
        ]
        files = self._files({neighbor for row in chosen for neighbor in row})
        return [self._with_rows(one, row, files, view) for one, row, view in zip(samples, chosen, views, strict=True)]

    def _chosen(self, neighbors: Sequence[int], view: View) -> list[int]:
        there = [neighbor for neighbor in neighbors if neighbor >= 0]
        return [there[place] for place in view.order(self._field.name, range(len(there)))[: self._field.rows]]

    def _files(self, ids: Iterable[int]) -> dict[int, Files | BadSample]:
        listed = sorted(ids)
        return dict(zip(listed, self._source.read(listed, self._captions.wanted | {"json"}), strict=True))

    def _with_rows(
        self, sample: Sample | BadSample, neighbors: Sequence[int], files: dict[int, Files | BadSample], view: View
    ) -> Sample | BadSample:
        if isinstance(sample, BadSample):
            return sample
        captions = [caption for id in neighbors for caption in self._caption(id, files[id], view)]
        return replace(sample, further={**sample.further, self._field.name: tuple(captions)}) if captions else sample

    def _caption(self, id: int, files: Files | BadSample, view: View) -> list[str]:
        """One of the captions of a neighbour, or none."""
        if isinstance(files, BadSample):
            return []
        try:
            captions = self._captions(files, self._meta(self._source.key(id), files))
        except BadSample:
            return []
        some = view.some(f"{self._field.name} {id}", captions, 1) if captions else ()
        return [self._field.prefix + text for text, _ in some]

    def _check(self) -> None:
        """Refuses a graph of other data."""
        where = f"fields.{self._field.name}.graph: {self._graph}"
        if not has_column(self._graph, self._source.fingerprint):
            raise UserError(
                f"{where} has no neighbours of {self._source.shard(0)} as this run reads it; mine exactly these data: "
                "`tercet data mine MODEL --data D`, with the same `part` and `group`, or with `--split train` of a run"
            )
        for piece in read_pieces(self._graph, self._source.fingerprint):
            if COLUMN not in piece.values:
                raise UserError(
                    f"{where} has no `{COLUMN}`, so it is not a neighbour graph; write one with `tercet data mine`"
                )
            if (largest := int(piece.values[COLUMN].max(initial=-1))) >= len(self._source):
                samples = f"the {len(self._source)} samples of the source"
                raise UserError(f"{where} names the id {largest}, which is not among {samples}; mine again")
