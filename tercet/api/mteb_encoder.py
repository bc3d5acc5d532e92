"""A model as an encoder of MTEB: what the protocol of `mteb` 2 asks for, on `Model.embed`.

MTEB hands over batches of texts, pictures and sounds. All of them go through the transforms of the model itself: its
resizing, its resampling, and the windows over which long sounds are pooled. An item of two modalities has the sum of
their vectors, as in MTEB's own encoders.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from datasets import Audio, Dataset  # type: ignore[import-untyped]
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType
from torch import Tensor
from torch.utils.data import DataLoader

from tercet.api.model import Model
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.sample import TextIntake
from tercet.errors import UserError
from tercet.eval.embedding.fingerprint import transform_digest, weights_digest

ENCODED = ("text", "image", "audio")  # the modalities of MTEB that a model of tercet may have
CHUNK = 256  # rows that are embedded at a time, because MTEB's batches may be of one picture
MIB = 2**20


class Encoder(AbsEncoder):
    """A model as MTEB calls it. `mteb_model_meta` is what MTEB files its results under."""

    mteb_model_meta: ModelMeta

    def __init__(self, model: Model, prefixes: Mapping[str, str]) -> None:
        self.model, self.prefixes = model, dict(prefixes)
        self.mteb_model_meta = meta_of(model, self.prefixes)

    def encode(
        self,
        inputs: DataLoader[Any],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **options: Any,
    ) -> Tensor:
        """Unit vectors, or sums of them for items of several modalities."""
        prefix = self.prefixes.get(prompt_type.value if prompt_type else "query", "")
        columns: Mapping[str, Any] = inputs.dataset.features  # type: ignore[attr-defined]  # MTEB's data sets have them
        names = [name for name in ENCODED if name in columns and name in self.model.modalities]
        if not names:
            raise UserError(f"{task_metadata.name} has {', '.join(columns)}, none of which {self.model.name} encodes")
        rows = [self._embedded(chunk, prefix) for chunk in chunks(undecoded(inputs), names)]
        return torch.cat(rows) if rows else torch.empty(0, self.model.dim)

    def _embedded(self, given: Mapping[str, Sequence[Any]], prefix: str) -> Tensor:
        ready = dict(given)
        if "text" in ready:
            ready["text"] = [prefix + text for text in ready["text"]]
        if "audio" in ready:
            ready["audio"] = [sound_of(one) for one in ready["audio"]]
        found = self.model.embed(**ready)
        return torch.stack([found[name] for name in ready]).sum(dim=0)


def undecoded(inputs: DataLoader[Any]) -> DataLoader[Any]:
    """The same batches with the files of sounds, which tercet decodes itself, so torchcodec is not needed."""
    data = inputs.dataset
    if not (isinstance(data, Dataset) and isinstance(data.features.get("audio"), Audio)):
        return inputs
    files = data.cast_column("audio", Audio(decode=False))
    return DataLoader(files, batch_size=inputs.batch_size, collate_fn=inputs.collate_fn, num_workers=inputs.num_workers)


def chunks(batches: DataLoader[Any], names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """The columns of these names, `CHUNK` rows or a few more at a time."""
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for batch in batches:
        for name in names:
            rows[name] += batch[name]
        if len(rows[names[0]]) >= CHUNK:
            yield rows
            rows = {name: [] for name in names}
    if rows[names[0]]:
        yield rows


def sound_of(given: Mapping[str, Any]) -> Any:
    """What `embed` takes, from a file as `datasets` keeps it, or from `{array, sampling_rate}`."""
    if "array" in given:
        return np.asarray(given["array"], dtype=np.float32), given["sampling_rate"]
    return given["path"] if given["bytes"] is None else given["bytes"]


def meta_of(model: Model, prefixes: Mapping[str, str]) -> ModelMeta:
    """The revision is a digest of all that determines the vectors: weights, transforms, dimensions and prefixes."""
    intakes, tensors = model.towers.intakes, list(model.towers.parameters())
    transforms = transform_digest(intakes, SplitConfig(source="given"), exact_images=False)
    known = json.dumps([weights_digest(model.towers), transforms, model.dims, sorted(prefixes.items())])
    text = intakes.get("text")
    return ModelMeta(
        loader=None,
        name="tercet/" + re.sub(r"[^\w.+-]+", "-", model.name).strip("-"),
        revision=blake2b(known.encode(), digest_size=16).hexdigest(),
        release_date=None,
        languages=None,
        n_parameters=sum(tensor.numel() for tensor in tensors),
        memory_usage_mb=sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MIB,
        max_tokens=text.shape[0] if isinstance(text, TextIntake) else None,
        embed_dim=model.dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=bool(prefixes),
        training_datasets=None,
        modalities=[name for name in ENCODED if name in model.modalities],
    )
