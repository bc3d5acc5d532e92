"""Soft retrieval: a field whose rows are made from a memory of stored vectors (`fields.NAME.among`).

    r = Σ_m a_m v_m,    a = softmax over m of ⟨q, v_m⟩ / temperature

q is a row of another field, of stored vectors of the same space, and v_m are all vectors of the memory; all of them
have length 1. So samples that belong together need not be paired: a caption retrieves pictures that fit it from any
collection of pictures, and captions in other languages from any collection of these (C-MCR, Wang et al. 2023; uCLIP,
Chung et al. 2025).

A batch gets the rows before its step, in place of what a tower would return. They go through the projection, which
trains. The memory gets no gradient. A row depends on its own query alone, so ranks and micro-batches change nothing.
Every rank keeps the whole memory in fp32.

Shape letters: n rows of a field on this rank, M vectors of the memory, D dimensions.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize
from xxhash import xxh3_128_digest

from tercet.data_pipelines.columns import column_digest, column_files
from tercet.data_pipelines.features import ROWS, FeatureManifest
from tercet.data_pipelines.fields import FieldConfig
from tercet.data_pipelines.retrieval_config import RetrievalConfig
from tercet.data_pipelines.sample import Batch, Field
from tercet.errors import UserError
from tercet.modality import modality_of
from tercet.models.multimodal import Multimodal
from tercet.training.features.towers import check_tower
from tercet.training.memory.unchanged import Unchanged, as_tensor

COSINES = 2**26  # in memory at a time


class RetrievalMemory:
    """The vectors of one modality in a folder of features. `files`: their fingerprint, for a checkpoint."""

    def __init__(self, key: str, modality: str, config: RetrievalConfig, device: torch.device) -> None:
        """`key`: what names the folder in the recipe."""
        self.temperature, self.nearest, folder = config.temperature, config.nearest, Path(config.features)
        manifest = FeatureManifest.read(folder, key)
        sources = sorted(manifest.sources)
        files = [path for source in sources for path in column_files(folder, source)]
        parts = [part_MD for path in files if (part_MD := _vectors(path, modality)) is not None]
        if not sum(map(len, parts)):
            raise UserError(f"{key}: {folder} has no vectors of {modality}; embed data that have {modality} into it")
        self.z_MD = normalize(torch.cat(parts).to(device), dim=1)
        digests = {source: column_digest(folder, source) for source in sources}
        digest = as_tensor(xxh3_128_digest(json.dumps(digests).encode()))
        self.files = Unchanged(f"{key}: {folder}", "vectors", str(folder), digest)

    def __call__(self, query_nD: Tensor) -> Tensor:
        """What each row retrieves."""
        at_once = max(COSINES // len(self.z_MD), 1)
        found = [self._retrieved(rows_nD) for rows_nD in torch.split(normalize(query_nD, dim=1), at_once)]
        return torch.cat(found) if len(query_nD) else query_nD

    def _retrieved(self, query_nD: Tensor) -> Tensor:
        cosine_nM = query_nD @ self.z_MD.T
        if self.nearest and self.nearest < len(self.z_MD):
            least_n1 = cosine_nM.topk(self.nearest).values[:, -1:]
            cosine_nM = cosine_nM.masked_fill(cosine_nM < least_n1, -torch.inf)
        return (cosine_nM / self.temperature).softmax(dim=1) @ self.z_MD


class SoftRetrieval:
    """Adds to a batch the rows of all fields with `among`. `memories`: by field."""

    def __init__(self, configs: Mapping[str, FieldConfig], model: Multimodal, device: torch.device) -> None:
        self.queries: dict[str, str] = {}
        self.memories: dict[str, RetrievalMemory] = {}
        for name, config in configs.items():
            if config.among is None or name not in model.fields:
                continue
            key, modality, query = f"fields.{name}.among.features", modality_of(name), config.source
            check_tower(model, modality, config.among.features, key)
            width, wanted = model.tower(modality).width, model.tower(modality_of(query)).width
            if width != wanted:
                raise UserError(
                    f"{key}: {config.among.features} has vectors of {width} dimensions, but `{query}` has {wanted}; "
                    "`from` must name a field of the same space"
                )
            self.queries[name] = query
            self.memories[name] = RetrievalMemory(key, modality, config.among, device)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        retrieved = {name: self._field(name, batch.fields[query]) for name, query in self.queries.items()}
        return replace(batch, fields={**batch.fields, **retrieved}) if retrieved else batch

    def _field(self, name: str, query: Field) -> Field:
        return Field(modality_of(name), self.memories[name](query.values), query.item, cached=True)


def _vectors(path: Path, modality: str) -> Tensor | None:
    """All vectors of a file that exist, as rows; None if it has none of this modality."""
    columns = load_file(path)
    if modality not in columns:
        return None
    vector, rows_n = columns[modality], columns[f"{modality}.{ROWS}"]
    exists = rows_n > 0 if vector.ndim == 2 else torch.arange(vector.shape[1]) < rows_n[:, None]
    found: Tensor = vector[exists]
    return found
