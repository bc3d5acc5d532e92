"""Writes the vectors of a model for every stored view of the samples of a recipe.

Shape letters: n samples of a piece, K views, C captions of a sample at most, d dimensions, b samples of a batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.view_loader import ViewBatch, ViewLoader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import MetaReader
from tercet.data_pipelines.columns import Column, column_files, write_part
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import Intake, TextIntake
from tercet.data_pipelines.source import Source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.embedding.embed import embed_prompts
from tercet.eval.embedding.vector_column import caption_vectors
from tercet.eval.embedding.view_column import (
    CLASS,
    CLASSES,
    MANIFEST,
    PIECE,
    SCORE,
    SEED,
    VECTORS,
    SourceViews,
    ViewManifest,
    differs,
)
from tercet.eval.products import products
from tercet.models.multimodal import Multimodal

TYPES: Mapping[str, type[np.floating[Any]]] = {"fp16": np.float16, "fp32": np.float32}


class ViewWriter:
    """Every rank has one. `intakes` are those of the model that the recipe trains, of the modalities to embed."""

    def __init__(
        self,
        folder: Path,
        model: Multimodal,
        manifest: ViewManifest,
        intakes: Mapping[str, Intake],
        world: World,
        bf16: bool,
        top: int = 0,
    ) -> None:
        """`top`: how many of the manifest's classes are stored for each view."""
        self.folder, self.model, self.world, self.bf16 = folder, model.eval(), world, bf16
        self.media = {name: one for name, one in intakes.items() if not isinstance(one, TextIntake)}
        text = intakes.get("text")
        self.text = text if isinstance(text, TextIntake) and not manifest.classes else None
        self.manifest = _begun(folder, manifest)
        self._type = TYPES[manifest.stored]
        self._class_Td: Tensor | None = None
        if manifest.classes:
            self._class_Td = embed_prompts(model.embed_text, manifest.classes)
            self.top = min(top, len(manifest.classes))
            if world.first:
                folder.mkdir(parents=True, exist_ok=True)
                save_file({VECTORS: self._class_Td.numpy()}, folder / CLASSES)
            world.barrier()

    def write(self, data: DataConfig, name: str, source: Source, places: Sequence[Mapping[str, float]]) -> None:
        """Adds a source, whose captions are at these places. Each rank writes its own files, and those that exist are
        not computed again. A collective."""
        fingerprint = source.fingerprint
        captions = SampleCaptions(source, data.train[name].sidecar, places if self.text else ())
        pieces = [range(first, min(first + PIECE, len(source))) for first in range(0, len(source), PIECE)]
        named = tuple(sorted({place for one in places for place in one}))
        about = self.manifest.sources.get(fingerprint)
        if about is None:
            most = self.world.max(max(map(captions.most, self.world.share(pieces)), default=0))
            about = SourceViews(len(source), (*self.media, *(["text"] if most else [])), named, most)
            self._note(fingerprint, about)
        if about.captions != named:
            raise UserError(
                f"{self.folder}: it has the captions of the source `{name}` from {', '.join(about.captions)}, not from "
                f"{', '.join(named)}; name another folder, or remove it"
            )
        begun = {int(path.stem) for path in column_files(self.folder, fingerprint)}
        missing = self.world.broadcast([piece for piece in pieces if not begun.intersection(piece)])
        loader = ViewLoader(data, name, source, self.media, self.world.share(missing))
        for piece, batches in groupby(loader, key=lambda one: one.piece):
            column = self._piece(piece, batches)
            if len(column.id_n):
                if self.text and about.most:
                    texts = captions(column.id_n.tolist())
                    found = caption_vectors(self.model, self.text, texts, about.most, self._type)
                    column = replace(column, values={**column.values, **found})
                write_part(self.folder, fingerprint, column)
        self.world.barrier()
        self._note(fingerprint, replace(about, complete=True))

    def _note(self, fingerprint: str, about: SourceViews) -> None:
        self.manifest = replace(self.manifest, sources={**self.manifest.sources, fingerprint: about})
        if self.world.first:
            self.manifest.write(self.folder)
        self.world.barrier()

    def _piece(self, piece: range, batches: Iterable[ViewBatch]) -> Column:
        """The samples of a piece that can be decoded, with the seed and the vectors of each view."""
        size, views = len(piece), self.manifest.count
        values: dict[str, NDArray[Any]] = {SEED: np.zeros((size, views), dtype=np.int64)}
        for part, none in self._kept(torch.zeros(0, self.manifest.dim)).items():
            values |= {name + part: np.zeros((size, views, *none.shape[1:]), none.dtype) for name in self.media}
        seen_nK = np.zeros((size, views), dtype=bool)
        for one in batches:
            assert one.batch.seeds is not None
            row_b = one.batch.ids.numpy() - piece.start
            seen_nK[row_b, one.view] = True
            values[SEED][row_b, one.view] = one.batch.seeds.numpy()
            for name, rows in one.batch.fields.items():
                for part, kept in self._embed(one, name).items():
                    values[name + part][row_b[rows.item.numpy()], one.view] = kept
        whole_n = seen_nK.all(axis=1)
        ids_n = np.arange(piece.start, piece.stop)
        return Column(ids_n[whole_n], {name: value[whole_n] for name, value in values.items()})

    @torch.no_grad()
    def _embed(self, one: ViewBatch, name: str) -> dict[str, NDArray[Any]]:
        field = one.batch.fields[name].to(self.world.device)
        if not len(field):
            return {}
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bf16):
            z_nd = self.model.embed_field(field)
        if not torch.isfinite(z_nd).all():
            raise UserError(f"a vector of {name} in view {one.view} is not finite; check the weights of the model")
        return self._kept(normalize(z_nd.float(), dim=1).cpu())

    def _kept(self, z_nd: Tensor) -> dict[str, NDArray[Any]]:
        """What is stored of some vectors: these, or the most similar classes. By the end of the column's name."""
        if self._class_Td is None:
            return {"": z_nd.numpy().astype(self._type)}
        score_nk, class_nk = products(z_nd, self._class_Td, self.world).topk(self.top, dim=1)
        return {CLASS: class_nk.numpy().astype(np.int32), SCORE: score_nk.numpy().astype(self._type)}


def _begun(folder: Path, manifest: ViewManifest) -> ViewManifest:
    """The manifest of the folder, which must be of the same model and views; a new one if there is none."""
    if not (folder / MANIFEST).is_file():
        return manifest
    found = ViewManifest.read(folder)
    fault = differs(manifest.made, found.made) or differs(found.made, manifest.made)
    if (found.weights, found.dim) != (manifest.weights, manifest.dim):
        fault = f"it has the vectors of {found.model} with other weights"
    elif found.classes != tuple(manifest.classes):
        fault = "it has other classes, or none"
    elif (found.count, found.stored) != (manifest.count, manifest.stored):
        fault = f"it has {found.count} views in {found.stored}, not {manifest.count} in {manifest.stored}"
    if fault:
        raise UserError(f"{folder}: {fault}; name another folder, or remove it")
    return found


class SampleCaptions:
    """All captions that a recipe may draw of each sample of a source."""

    def __init__(self, source: Source, sidecar: str | None, places: Sequence[Mapping[str, float]]) -> None:
        self._source, self._meta = source, MetaReader(sidecar)
        self._readers = [CaptionReader(one) for one in places]
        self._wanted = frozenset({"json"}).union(*(reader.wanted for reader in self._readers))

    def most(self, ids: Sequence[int]) -> int:
        """How many a sample has at most."""
        return max(map(len, self(ids)), default=0) if self._readers else 0

    def __call__(self, ids: Sequence[int]) -> list[tuple[str, ...]]:
        """Those of each sample, without repetitions."""
        found = self._source.read(ids, self._wanted)
        return [self._of(self._source.key(id), files) for id, files in zip(ids, found, strict=True)]

    def _of(self, key: str, files: Any) -> tuple[str, ...]:
        if isinstance(files, BadSample):
            return ()
        try:
            meta = self._meta(key, files)
            captions = (one for reader in self._readers for one in reader.optional(files, meta).every)
            return tuple(dict.fromkeys(one for one in captions if one))
        except BadSample:
            return ()
