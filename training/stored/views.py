"""Reads what a fixed teacher said about the views of the data, for the very views that a step trains on.

Values of a picture or sound are found by the sample and the key of its view, those of a caption by its tokens. So they
always belong to what the learner sees.

Shape letters: n rows of a field on this rank, M marks of a sample: its views or captions.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.mapped_column import MappedColumn
from tercet.data_pipelines.sample import Batch
from tercet.errors import RankError, UserError
from tercet.eval.embedding.vector_column import CAPTION, hashes
from tercet.eval.embedding.view_column import SEED, ViewManifest, differs, how_made
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.memory import Memory, SavedMemory, StageContext
from tercet.training.memory.unchanged import fixed_columns


class StoredViews(Memory):
    """Reads columns of the views of a batch. A checkpoint has a fingerprint of the files.

    `wanted` are the fields of which the memory has values, and `columns` the names of these.
    """

    def __init__(self, folder: str, context: StageContext, wanted: Sequence[str], columns: Sequence[str]) -> None:
        self.key, self.folder, self.world = f"memories.{context.name}.folder", Path(folder), context.world
        self.manifest = ViewManifest.read(self.folder)
        self.fields = {name: field for name, field in context.fields.items() if name in wanted}
        self.sources = context.sources
        self._check(context)
        self._columns = [
            {name: MappedColumn(self.folder, source.fingerprint, name) for name in columns} for source in self.sources
        ]
        about = [self.manifest.weights, self.manifest.made]
        self._files = fixed_columns(self.key, "values", self.folder, self.sources, about)

    def stored(self, batch: Batch, name: str, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The values of these columns of this rank's rows of a field."""
        field = batch.fields[name]
        id_n = batch.ids[field.item].cpu().numpy()
        if field.modality == "text":
            marks, mark_n = CAPTION, hashes(field.values.cpu().numpy())
        else:
            assert batch.seeds is not None  # because the recipe has views
            marks, mark_n = SEED, batch.seeds[field.item].cpu().numpy()
        found = {}
        for column in columns:
            first = self._columns[0][column]
            found[column] = np.zeros((len(id_n), *first.shape[1:]), dtype=first.dtype)
        for source, held in zip(self.sources, self._columns, strict=True):
            among_n = (id_n >= source.ids.start) & (id_n < source.ids.stop)
            if among_n.any():
                own_n = id_n[among_n] - source.ids.start
                place_n = self._place(name, held[marks], own_n, mark_n[among_n])
                for column in columns:
                    found[column][among_n] = held[column].rows(own_n)[0][np.arange(len(own_n)), place_n]
        return found

    def _place(
        self, name: str, marks: MappedColumn, id_n: NDArray[np.int64], mark_n: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Which of a sample's views or captions has its mark."""
        same_nM = marks.rows(id_n)[0] == mark_n[:, None]
        missing_n = ~same_nM.any(axis=1)
        if missing_n.any():
            raise RankError(
                f"{self.key}: {self.folder} lacks what this step drew of `{name}`, such as of sample "
                f"{int(id_n[missing_n][0])}; write it again, into a new folder"
            )
        place_n: NDArray[np.int64] = same_nM.argmax(axis=1)
        return place_n

    def _check(self, context: StageContext) -> None:
        """Refuses views or data other than those that were stored, and fields of which nothing is stored."""
        data, views = context.config.data, context.config.data.views
        assert views is not None  # by the config
        own = {name: field.intake for name, field in context.fields.items() if name == field.modality}
        stored = {name: one for name, one in own.items() if f"the input of {name}" in self.manifest.made}
        again = f"tercet embed {self.manifest.model} --views RECIPE --out DIR"
        if fault := differs(how_made(data, stored), self.manifest.made):
            raise UserError(f"{self.key}: {fault}; write the folder again with this recipe: {again}")
        if views.count > self.manifest.count:
            raise UserError(
                f"{self.key}: {self.folder} has {self.manifest.count} views of each sample, and data.views.count is "
                f"{views.count}; lower it, or write the folder again: {again}"
            )
        for source, name in zip(self.sources, data.train, strict=True):
            found = self.manifest.sources.get(source.fingerprint)
            if found is None or not found.complete:
                lacks = "nothing" if found is None else "only a part"
                raise UserError(
                    f"{self.key}: {self.folder} has {lacks} of the source `{name}` as it is now; add it: {again}"
                )
            for field, spec in self.fields.items():
                if spec.modality not in found.modalities or (spec.modality != "text" and field != spec.modality):
                    raise UserError(
                        f"{self.key}: {self.folder} has nothing of `{field}`, only of {', '.join(found.modalities)}; "
                        "use a memory of the kind `teacher` for it"
                    )

    def state(self) -> Iterator[SavedTensor]:
        return self._files.state()

    def restore(self, saved: SavedMemory) -> None:
        self._files.restore(saved)
