"""The vectors of a reference, read from columns instead of computed in each step.

A column has the vector of each sample as in evaluation. So the reference sees the centre of a picture and the whole
sound, where the learner sees a random crop. A sample without a vector gets a zero vector, so all its
cosines are 0.

Shape letters: n rows of a field on this rank, d dimensions.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize
from xxhash import xxh3_64_hexdigest, xxh3_128

from tercet.data_pipelines.columns import column_files
from tercet.data_pipelines.mapped_column import MappedColumn
from tercet.data_pipelines.sample import Batch, Field
from tercet.data_pipelines.shards.fingerprint import fingerprint
from tercet.errors import RankError, UserError
from tercet.eval.fingerprint import weights_digest
from tercet.eval.vector_column import CAPTION, SourceVectors, VectorManifest, hashes
from tercet.training.config import RunConfig
from tercet.training.flops import Flops
from tercet.training.memory.memory import Memory, SavedMemory, SavedTensor, StageContext
from tercet.training.selection.reference import Reference, ReferenceModel

KEY = "selection.reference_vectors"


class ColumnReference(Reference):
    """A reference whose vectors are read from columns. A model embeds the fields that the columns lack, if any."""

    def __init__(self, folder: str, spec: str | None, fields: Collection[str], context: StageContext) -> None:
        self.memory = self.columns = VectorColumns(folder, fields, context)
        manifest = self.columns.manifest
        self.spec, self.temperatures = manifest.model, manifest.temperatures
        self.model: ReferenceModel | None = None
        self.flops = Flops({})
        for name, reason in self.columns.lacking.items():
            if spec is None:
                raise UserError(
                    f"{KEY}: {folder} has no vectors of `{name}`: {reason}. Set selection.reference to {self.spec}, "
                    f"too, which then embeds `{name}` in each step"
                )
        if spec is not None and self.columns.lacking:
            self.model = ReferenceModel(spec, self.columns.lacking, context)
            self.flops = self.model.flops
            if weights_digest(self.model.model) != manifest.weights:
                raise UserError(
                    f"{KEY}: {folder} has the vectors of {self.spec}, whose weights differ from those of "
                    f"selection.reference, {spec}; name the same model"
                )

    def vectors(self, batch: Batch) -> dict[str, Tensor]:
        return {**self.columns.vectors(batch), **(self.model.vectors(batch) if self.model else {})}


class VectorColumns(Memory):
    """The vectors of the reference that columns have. A checkpoint has the fingerprint of their files.

    `fields` are the wanted fields that the columns have, and `lacking` the others, each with the reason.
    """

    def __init__(self, folder: str, wanted: Collection[str], context: StageContext, key: str = KEY) -> None:
        """`key`: what names the folder in the recipe."""
        self.folder, self.device, self.key = Path(folder), context.world.device, key
        self.manifest = VectorManifest.read(self.folder)
        self.sources = context.sources
        known = [self._known(one.fingerprint, index, context) for index, one in enumerate(self.sources)]
        self.lacking = {name: reason for name in wanted if (reason := _lacking(name, known))}
        self.fields = tuple(name for name in wanted if name not in self.lacking)
        self._vectors = {name: [self._mapped(one, name, known) for one in range(len(known))] for name in self.fields}
        self._captions = [
            MappedColumn(self.folder, source.fingerprint, CAPTION) if vectors.most > 1 else None
            for source, vectors in zip(self.sources, known, strict=True)
        ]

    def vectors(self, batch: Batch) -> dict[str, Tensor]:
        """The vectors of this rank's rows, by field."""
        return {name: self._rows(name, batch.ids, batch.fields[name]) for name in self.fields}

    def _rows(self, name: str, ids: Tensor, field: Field) -> Tensor:
        id_n = ids[field.item].cpu().numpy()
        z_nd = np.zeros((len(id_n), self.manifest.dim), dtype=np.float32)
        for source, column, captions in zip(self.sources, self._vectors[name], self._captions, strict=True):
            among_n = (id_n >= source.ids.start) & (id_n < source.ids.stop)
            if not among_n.any():
                continue
            if column is None:
                raise RankError(
                    f"{self.key}: {self.folder} has no vectors of `{name}` for the source with fingerprint "
                    f"{source.fingerprint}, but its samples have {name}; embed the source again, into a new folder"
                )
            own_n = id_n[among_n] - source.ids.start
            found, has_n = column.rows(own_n)
            if captions is not None and name == "text":
                hash_n = hashes(field.values.cpu().numpy()[among_n])
                found = self._drawn(found, has_n, captions.rows(own_n)[0] == hash_n[:, None])
            z_nd[among_n] = found
        return normalize(torch.from_numpy(z_nd).to(self.device), dim=1)

    def _drawn(self, z_nCd: NDArray[Any], has_n: NDArray[np.bool_], same_nC: NDArray[np.bool_]) -> NDArray[Any]:
        """The vector of the caption that the step has drawn of each sample."""
        if not same_nC[has_n].any(axis=1).all():
            raise RankError(
                f"{self.key}: {self.folder} has no vector of a caption that this step drew. With several captions of a "
                "sample, the reference must have the tokenizer and the context length of the run; embed the data again"
            )
        found: NDArray[Any] = z_nCd[np.arange(len(z_nCd)), same_nC.argmax(axis=1)]
        return found

    def state(self) -> Iterator[SavedTensor]:
        yield SavedTensor(self._name, self._fingerprint())

    def restore(self, saved: SavedMemory) -> None:
        if self._name in saved.names() and not torch.equal(saved.read(self._name), self._fingerprint()):
            raise UserError(
                f"{self.key}: {self.folder} has other vectors than when this run began; restore them, or start a new "
                "run with out=…"
            )

    @property
    def _name(self) -> str:
        """The name of the fingerprint. It names the folder and the sources, because other stages may read others."""
        read = json.dumps([str(self.folder), *(source.fingerprint for source in self.sources)])
        return f"fingerprint-{xxh3_64_hexdigest(read.encode())}"

    def _fingerprint(self) -> Tensor:
        """A hash of the temperatures, and of the size and a few blocks of each file."""
        state = xxh3_128(json.dumps([self.manifest.weights, repr(self.manifest.temperatures)]).encode())
        for source in self.sources:
            for path in column_files(self.folder, source.fingerprint):
                state.update(f"{path.name} {fingerprint(str(path))}".encode())
        return torch.tensor(list(state.digest()), dtype=torch.uint8)

    def _mapped(self, index: int, name: str, known: Sequence[SourceVectors]) -> MappedColumn | None:
        has = name in known[index].modalities
        return MappedColumn(self.folder, self.sources[index].fingerprint, name) if has else None

    def _known(self, source: str, index: int, context: StageContext) -> SourceVectors:
        """What the folder has of a source, which must be read as it was when it was embedded."""
        name, config = list(context.config.data.train.items())[index]
        if config.sound_pairs:
            raise UserError(
                f"{self.key}: the source `{name}` joins two sounds to one, which no column has; remove {self.key}"
            )
        found = self.manifest.sources.get(source)
        if found and found.captions == tuple(sorted(config.captions)):
            return found
        where = config.source if isinstance(config.source, str) else config.source[0]
        read_as = [f"part={list(config.part)}".replace(" ", "")] if config.part else []
        read_as += [f"captions={config.captions}"] if config.captions else []
        raise UserError(
            f"{self.key}: {self.folder} has no vectors of the source `{name}` as this run reads it; add them: tercet "
            f"embed {' '.join([self.manifest.model, '--data', where, *read_as])} --format column --out {self.folder}"
        )


def _lacking(name: str, known: Sequence[SourceVectors]) -> str:
    """Why the columns have no vectors of a field; empty if they have."""
    if name == "text" and any(len(one.captions) > 1 for one in known):
        return "a source draws captions from several places"
    return "" if any(name in one.modalities for one in known) else "they hold one vector of each modality"


def check_vectors(folder: str, run: RunConfig) -> None:
    """Raises `UserError` if there are no columns in the folder, or if the run cannot read them."""
    VectorManifest.read(Path(folder))
    if run.data.mode == "stream":
        raise UserError(f"{KEY}: vectors are read by sample ids, which a stream lacks; set data.mode=index")
