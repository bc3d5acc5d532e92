"""A fixed teacher whose vectors are read from the disk, for the very views that a step trains on.

The vectors of a picture or sound are found by the sample and the key of its view, those of a caption by its tokens. So
the teacher's vector always belongs to what the learner sees.

Shape letters: n rows of a field on this rank, K views, C captions, d dimensions.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize
from xxhash import xxh3_128

from tercet.data_pipelines.columns import column_files
from tercet.data_pipelines.mapped_column import MappedColumn
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.shards.fingerprint import fingerprint
from tercet.errors import RankError, UserError
from tercet.eval.vector_column import CAPTION, hashes
from tercet.eval.view_column import SEED, ViewManifest, differs, how_made
from tercet.modality import modality_of
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import gather
from tercet.training.memory.memory import Memory, SavedMemory, SavedTensor, StageContext
from tercet.training.memory.names import fields_read

FINGERPRINT = "fingerprint"


class StoredTeacher(Memory):
    """Offers a stored vector for each row of the batch, of the fields that terms read. A checkpoint has a fingerprint
    of the files."""

    def __init__(self, folder: str, context: StageContext) -> None:
        self.key, self.folder, self.world = f"memories.{context.name}.folder", Path(folder), context.world
        self.manifest = ViewManifest.read(self.folder)
        read = fields_read(context.name, context.config.all_memories, context.config.terms)
        self.fields = {name: field for name, field in context.fields.items() if name in read}
        self.sources = context.sources
        self._check(context)
        modalities = sorted({modality_of(name) for name in self.fields})
        names = {
            *(one for one in modalities if one != "text"),
            SEED,
            *(("text", CAPTION) if "text" in modalities else ()),
        }
        self._columns = [
            {name: MappedColumn(self.folder, source.fingerprint, name) for name in sorted(names)}
            for source in self.sources
        ]

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        return {
            name: gather(batch, name, self._vectors(batch, name), field.rows, self.world)
            for name, field in self.fields.items()
        }

    def _vectors(self, batch: Batch, name: str) -> Tensor:
        """The vectors of this rank's rows of a field."""
        field = batch.fields[name]
        id_n = batch.ids[field.item].cpu().numpy()
        z_nd = np.zeros((len(id_n), self.manifest.dim), dtype=np.float32)
        if field.modality == "text":
            column, marks, mark_n = "text", CAPTION, hashes(field.values.cpu().numpy())
        else:
            assert batch.seeds is not None  # because the recipe has views
            column, marks, mark_n = name, SEED, batch.seeds[field.item].cpu().numpy()
        for source, columns in zip(self.sources, self._columns, strict=True):
            among_n = (id_n >= source.ids.start) & (id_n < source.ids.stop)
            if among_n.any():
                z_nd[among_n] = self._found(columns, column, marks, id_n[among_n] - source.ids.start, mark_n[among_n])
        return normalize(torch.from_numpy(z_nd).to(self.world.device), dim=1)

    def _found(
        self, columns: Mapping[str, MappedColumn], name: str, marks: str, id_n: NDArray[Any], mark_n: NDArray[Any]
    ) -> NDArray[Any]:
        """The vectors of samples whose view or caption has these marks."""
        stored_nM, _ = columns[marks].rows(id_n)
        same_nM = stored_nM == mark_n[:, None]
        if not same_nM.any(axis=1).all():
            what = "captions" if name == "text" else "views"
            raise RankError(
                f"{self.key}: {self.folder} lacks {what} that this step drew, such as of sample "
                f"{int(id_n[~same_nM.any(axis=1)][0])}; write them again, into a new folder"
            )
        z_nMd, _ = columns[name].rows(id_n)
        found: NDArray[Any] = z_nMd[np.arange(len(id_n)), same_nM.argmax(axis=1)]
        return found

    def _check(self, context: StageContext) -> None:
        """Refuses views or data other than those that were stored, and fields without stored vectors."""
        data, views = context.config.data, context.config.data.views
        assert views is not None  # by the config
        own = {name: field.intake for name, field in context.fields.items() if name == field.modality}
        stored = {name: one for name, one in own.items() if f"the input of {name}" in self.manifest.made}
        if fault := differs(how_made(data, stored), self.manifest.made):
            raise UserError(f"{self.key}: {fault}; write the folder again with this recipe: {self._command}")
        if views.count > self.manifest.count:
            raise UserError(
                f"{self.key}: {self.folder} has {self.manifest.count} views of each sample, and data.views.count is "
                f"{views.count}; lower it, or write the folder again: {self._command}"
            )
        for source, name in zip(self.sources, data.train, strict=True):
            found = self.manifest.sources.get(source.fingerprint)
            if found is None or not found.complete:
                lacks = "no vectors" if found is None else "only a part of the vectors"
                raise UserError(
                    f"{self.key}: {self.folder} has {lacks} of the source `{name}` as it is now; add them: "
                    f"{self._command}"
                )
            for field, spec in self.fields.items():
                if spec.modality not in found.modalities or (spec.modality != "text" and field != spec.modality):
                    raise UserError(
                        f"{self.key}: {self.folder} has no vectors of `{field}`, only of "
                        f"{', '.join(found.modalities)}; use a teacher of the kind `teacher` for this term"
                    )

    @property
    def _command(self) -> str:
        return f"tercet embed {self.manifest.model} --views RECIPE --out DIR"

    def state(self) -> Iterator[SavedTensor]:
        yield SavedTensor(FINGERPRINT, self._fingerprint())

    def restore(self, saved: SavedMemory) -> None:
        if FINGERPRINT in saved.names() and not torch.equal(saved.read(FINGERPRINT), self._fingerprint()):
            raise UserError(
                f"{self.key}: {self.folder} has other vectors than when this run began; restore them, or start a new "
                "run with out=…"
            )

    def _fingerprint(self) -> Tensor:
        """A hash of the manifest, and of the size and a few blocks of each file."""
        state = xxh3_128(json.dumps([self.manifest.weights, self.manifest.made]).encode())
        for source in self.sources:
            for path in column_files(self.folder, source.fingerprint):
                state.update(f"{path.name} {fingerprint(str(path))}".encode())
        return torch.tensor(list(state.digest()), dtype=torch.uint8)
