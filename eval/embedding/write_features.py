"""Writes features: the outputs of a model's towers for the samples of a source; see `data_pipelines/features.py`.

Each rank embeds its own files, and files that exist are not computed again.

Shape letters: n samples of a file, r rows, C captions of a sample at most, D the width of a tower.
"""

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from tercet.data_pipelines.bad_samples import Fault, summary
from tercet.data_pipelines.batches.batch_maker import number
from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.columns import Column, column_files, write_part
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.features import (
    CAPTIONS,
    GROUP,
    MANIFEST,
    ROWS,
    VALUE,
    FeatureManifest,
    StoredSource,
    StoredTower,
    reading,
)
from tercet.data_pipelines.sample import Batch, Sample, TextIntake
from tercet.data_pipelines.source import Source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.embedding.fingerprint import tower_digest
from tercet.models.multimodal import Multimodal

SAMPLES, BATCH = 2**16, 256  # of one file, and of one pass
Rows = tuple[NDArray[np.int64], NDArray[np.float32]]  # how many rows each sample has, and the vectors of all of them


class FeatureWriter:
    """Embeds sources with the towers of one model into one folder. Every method is a collective."""

    def __init__(self, model: Multimodal, name: str, modalities: Collection[str], folder: Path, world: World) -> None:
        """`name`: what the user called the model. `modalities`: those to embed."""
        self.model, self.folder, self.world = model.eval(), folder, world
        self.intakes = {one: intake for one, intake in model.intakes.items() if one in modalities}
        towers = {one: StoredTower(tower_digest(model.tower(one)), model.tower(one).width) for one in self.intakes}
        begun = FeatureManifest(name, towers)
        self.manifest = FeatureManifest.read(folder, "--out") if (folder / MANIFEST).is_file() else begun
        if self.manifest.towers != towers:
            raise UserError(
                f"{folder} has the features of other towers, those of {self.manifest.model}; name another folder"
            )
        world.barrier()
        if world.first:
            self.manifest.write(folder)  # so that another model cannot add to it

    def add(self, source: Source, data: DataConfig, split: SplitConfig) -> StoredSource:
        """Adds the features of a source. A sample that cannot be read is left out."""
        decoder = Decoder(source, self.intakes, split, data.exact_images)
        faults: list[Fault] = []
        for ids in self.world.broadcast(self._missing(source))[self.world.rank :: self.world.size]:
            loader = EvalLoader(decoder, self.intakes, BATCH, ids=ids, workers=data.workers, max_bad=data.max_bad)
            column = self._embedded(loader, split, data.values)
            faults += loader.faults
            if len(column.id_n):
                write_part(self.folder, source.fingerprint, column)
        faults = [fault for some in self.world.gather_objects(faults) for fault in some]
        if faults and self.world.first:
            print(f"tercet: {len(faults)} samples could not be embedded ({summary(faults)})", file=sys.stderr)
        return self._note(source, split, data.values)

    def _missing(self, source: Source) -> list[range]:
        """The ids of the files that do not exist yet."""
        begun = {int(path.stem) // SAMPLES for path in column_files(self.folder, source.fingerprint)}
        starts = [start for start in range(0, len(source), SAMPLES) if start // SAMPLES not in begun]
        return [range(start, min(start + SAMPLES, len(source))) for start in starts]

    def _note(self, source: Source, split: SplitConfig, values: Mapping[str, str]) -> StoredSource:
        """Adds the source to the manifest, from the files of all ranks."""
        counts = Counter[str]()
        for path in column_files(self.folder, source.fingerprint):
            with safe_open(path, "numpy") as file:
                counts["stored"] += file.get_slice("id").get_shape()[0]
                counts.update({name: int(file.get_tensor(f"{name}.{ROWS}").sum()) for name in self._of(split)})
        if not counts["stored"]:
            raise UserError(f"no sample of {split.source} could be embedded; name other data")
        modalities = tuple(name for name in self._of(split) if counts[name])
        about = StoredSource(len(source), counts["stored"], modalities, reading(split), dict(values))
        self.manifest = replace(self.manifest, sources={**self.manifest.sources, source.fingerprint: about})
        self.world.barrier()
        if self.world.first:
            self.manifest.write(self.folder)
        return about

    def _of(self, split: SplitConfig) -> list[str]:
        return [name for name in self.intakes if name in (split.fields or self.intakes)]

    @torch.no_grad()
    def _embedded(self, loader: EvalLoader, split: SplitConfig, places: Mapping[str, str]) -> Column:
        """The features of the samples of one file, and their numbers at these places."""
        parts: dict[str, list[Rows]] = {name: [] for name in self._of(split)}
        samples: list[Sample] = []
        for batch in loader:
            for name, rows in parts.items():
                rows.append(self._captions(batch.samples) if name == CAPTIONS else self._media(name, batch))
            samples += batch.samples
        id_n = np.array([sample.id for sample in samples], dtype=np.int64)
        values: dict[str, NDArray[Any]] = {GROUP: np.array([sample.group for sample in samples], dtype=np.int64)}
        for name, place in places.items():
            values[f"{VALUE}.{name}"] = np.array([number(sample.meta, place) for sample in samples], dtype=np.float32)
        for name, rows in parts.items() if samples else ():
            values[f"{name}.{ROWS}"] = np.concatenate([count_b for count_b, _ in rows])
            values[name] = _laid_out(
                name, values[f"{name}.{ROWS}"], np.concatenate([vector_rD for _, vector_rD in rows])
            )
        return Column(id_n, values)

    def _media(self, name: str, batch: Batch) -> Rows:
        field, tower = batch.fields[name].to(self.world.device), self.model.tower(name)
        count_b = torch.bincount(field.item, minlength=len(batch)).cpu().numpy()
        return count_b, _plain(tower.embed(field.values, field.lengths)) if len(field) else _none(tower.width)

    def _captions(self, samples: Sequence[Sample]) -> Rows:
        """The vectors of all captions of each sample."""
        tower, captions = self.model.tower(CAPTIONS), [caption for sample in samples for caption in sample.text]
        assert isinstance(tower.intake, TextIntake)
        some = [captions[at : at + BATCH] for at in range(0, len(captions), BATCH)]
        parts = [_plain(tower.embed(tower.intake.tokenize(one).to(self.world.device))) for one in some]
        return np.array([len(sample.text) for sample in samples]), np.concatenate([_none(tower.width), *parts])


def _laid_out(name: str, count_n: NDArray[np.int64], vector_rD: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows by sample: [n, D], and for captions [n, C, D]. Rows that do not exist are zero."""
    most = max(int(count_n.max(initial=1)), 1)
    exists_nC = np.arange(most) < count_n[:, None]
    vector_nCD = np.zeros((*exists_nC.shape, vector_rD.shape[1]), dtype=np.float32)
    vector_nCD[exists_nC] = vector_rD
    return vector_nCD if name == CAPTIONS else vector_nCD[:, 0]


def _plain(vector_rD: Tensor) -> NDArray[np.float32]:
    plain: NDArray[np.float32] = vector_rD.float().cpu().numpy()
    return plain


def _none(width: int) -> NDArray[np.float32]:
    return np.zeros((0, width), dtype=np.float32)
