"""Reads features, the stored outputs of towers, in place of pictures, sounds and captions.

Shape letters: n samples, D the width of a tower.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.features import CAPTIONS, GROUP, ROWS, VALUE, FeatureManifest, again, checked, where
from tercet.data_pipelines.mapped_column import MappedColumn
from tercet.data_pipelines.sample import FeatureIntake, Intake, Media
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.transforms.crop import View
from tercet.errors import UserError
from tercet.modality import MODALITIES

MISSING = "no stored features"  # the reason of a bad sample
Ints = NDArray[np.int64]
Stored = Mapping[str, Media]  # vectors by field


class StoredFeatures:
    """The features of one field of one source. `values`: numbers of each sample, by name and place."""

    def __init__(self, intake: FeatureIntake, source: Source, split: SplitConfig) -> None:
        folder, self.name, self.width, key = Path(intake.folder), intake.field, intake.width, intake.key
        self.modality = intake.modality
        manifest = FeatureManifest.read(folder, key)
        found = checked(manifest, key, folder, source, split)
        fingerprint = source.fingerprint
        self.values = {
            (name, place): MappedColumn(folder, fingerprint, f"{VALUE}.{name}") for name, place in found.values.items()
        }
        self.groups = MappedColumn(folder, fingerprint, GROUP)
        self._rows = self._vectors = None
        if self.modality in found.modalities:
            self._rows = MappedColumn(folder, fingerprint, f"{self.modality}.{ROWS}")
            self._vectors = MappedColumn(folder, fingerprint, self.modality)
            if self._vectors.shape[-1] != self.width:
                raise UserError(
                    f"{key}: {folder} has vectors of {self._vectors.shape[-1]} dimensions, but the tower has "
                    f"{self.width}; {again(manifest, folder, split)}"
                )
        if len(self.groups) != found.stored:
            raise UserError(
                f"{key}: {folder} has the features of {len(self.groups):,} samples of {where(split)}, not of "
                f"{found.stored:,}, so files are missing; {again(manifest, folder, split)}"
            )

    def read(
        self, id_n: Ints, share_n: NDArray[np.float64], vector_nD: NDArray[np.float32]
    ) -> tuple[Ints, NDArray[np.bool_]]:
        """Writes the vectors of these samples. Returns how many rows each sample has, 0 or 1, and which are stored.

        `share_n`: numbers from [0, 1) that choose among the captions of each sample.
        """
        if self._rows is None or self._vectors is None:
            return np.zeros(len(id_n), dtype=np.int64), self.groups.rows(id_n)[1]
        rows_n, has_n = self._rows.rows(id_n)
        at_n = (share_n * rows_n).astype(np.int64) if self.modality == CAPTIONS else None
        self._vectors.read(id_n, vector_nD, at_n)
        return np.minimum(rows_n, 1), has_n


def open_features(intakes: Iterable[Intake], source: Source, split: SplitConfig) -> list[StoredFeatures]:
    """The features of the intakes that are stored, of the modalities that the source is used for."""
    stored = [intake for intake in intakes if isinstance(intake, FeatureIntake)]
    return [StoredFeatures(one, source, split) for one in stored if one.modality in (split.fields or MODALITIES)]


def stored_of(
    features: Sequence[StoredFeatures], ids: Sequence[int], views: Sequence[View]
) -> list[Stored | BadSample]:
    """The vectors of each sample, or why the sample is bad."""
    if not features:
        return [{} for _ in ids]
    found: list[dict[str, Media]] = [{} for _ in ids]
    has_n = np.ones(len(ids), dtype=bool)
    id_n, share_n = np.array(ids, dtype=np.int64), np.array([view.caption for view in views])
    for one in features:
        vector_nD = np.zeros((len(ids), one.width), dtype=np.float32)
        rows_n, stored_n = one.read(id_n, share_n, vector_nD)
        has_n &= stored_n
        for sample in np.flatnonzero(rows_n):
            found[sample][one.name] = vector_nD[sample]
    return [sample if has else BadSample(MISSING) for sample, has in zip(found, has_n, strict=True)]
