"""Reads the vectors of a model from columns, by sample, instead of computing them in each step.

A column has the vector of each sample as in evaluation. So the model sees the centre of a picture and the whole sound,
where the learner sees a random crop. A sample without a vector gets a zero vector, so all its cosines are 0.

Shape letters: n rows of a field on this rank, C captions of a sample at most, d dimensions.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.mapped_column import MappedColumn
from tercet.data_pipelines.sample import Batch, Field
from tercet.errors import RankError, UserError
from tercet.eval.embedding.vector_column import CAPTION, SourceVectors, VectorManifest, hashes
from tercet.training.memory.memory import StageContext
from tercet.training.memory.unchanged import fixed_columns


class VectorColumns:
    """The vectors of a model for the samples of a stage.

    `fields` are the wanted fields that the columns have, and `lacking` the others, each with the reason. `files`: their
    fingerprint, for a checkpoint.
    """

    def __init__(self, folder: str, wanted: Collection[str], context: StageContext, key: str) -> None:
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
        about = [self.manifest.weights, repr(self.manifest.temperatures)]
        self.files = fixed_columns(key, "vectors", self.folder, self.sources, about)

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
