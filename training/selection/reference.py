"""The reference of a joint selection: the vectors and temperatures of a fixed model."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from tercet.configs.base import build
from tercet.data_pipelines.sample import Batch
from tercet.errors import UserError
from tercet.eval.embedding.vector_column import TermTemperature
from tercet.modality import modality_of_vectors
from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig
from tercet.training.loop.flops import Flops, count_flops
from tercet.training.memory.batch_encoder import embed_in_parts
from tercet.training.memory.memory import Memory, StageContext
from tercet.training.memory.teacher import check_intakes, load_once
from tercet.training.memory.unchanged import fixed_weights
from tercet.training.pretrained import models_of, pretrained
from tercet.training.selection.candidates import Temperature
from tercet.training.selection.pair_losses import Kind


class Reference:
    """What a joint selection reads of a reference: the vectors of a super-batch, and the temperatures of its terms.

    `flops`: those of the rows that a model embeds. `memory`: what a checkpoint keeps of it, if anything.
    """

    spec: str
    temperatures: Sequence[TermTemperature]
    flops: Flops
    memory: Memory | None = None

    def vectors(self, batch: Batch) -> dict[str, Tensor]:
        """The vectors of this rank's rows, by field."""
        raise NotImplementedError

    def temperature(self, x: str, y: str, kind: Kind) -> Temperature:
        """That of the reference's own term between fields of these modalities."""
        wanted = set(map(modality_of_vectors, (x, y)))
        found = next((term for term in self.temperatures if set(term.modalities) == wanted), None)
        if found is None:
            raise UserError(
                f"selection.reference_scale: {self.spec} was not trained to compare {x} and {y}, so it has no scale of "
                "its own; set reference_scale to calibrated"
            )
        if kind == "sigmoid" and found.bias is None:
            raise UserError(
                f"selection.reference_scale: {self.spec} was trained without a bias, which the sigmoid loss needs; set "
                "reference_scale to calibrated"
            )
        return Temperature(found.scale, 0.0 if kind == "softmax" else found.bias or 0.0)


class ReferenceModel(Reference):
    """A fixed model that embeds the samples of each super-batch, with the crops and captions that the learner gets.

    It is in evaluation mode and computes no gradient. Every rank has the whole model. A checkpoint has the fingerprint
    of its weights.
    """

    def __init__(self, spec: str, fields: Collection[str], context: StageContext) -> None:
        config, world = context.config, context.world
        self.spec = spec
        self.fields, self.bf16, self.chunk = tuple(fields), config.precision == "bf16", config.micro_batch
        self.model = load_once(spec, world).requires_grad_(False).to(world.device)
        where = f"selection.reference: {spec}"
        check_intakes(where, self.model, {name: context.fields[name] for name in fields})
        self.flops = count_flops(self.model, {name: context.fields[name].intake for name in fields})
        self.temperatures = temperatures(spec, self.model)
        self.memory = fixed_weights("selection.reference", spec, self.model)
        for name in fields:
            modality = modality_of_vectors(name)
            if not any(modality in term.modalities for term in self.temperatures):
                raise UserError(f"{where} was not trained on {modality}, which `{name}` needs; use another model")

    def vectors(self, batch: Batch) -> dict[str, Tensor]:
        return {name: embed_in_parts(self.model, batch.fields[name], self.chunk, self.bf16) for name in self.fields}


def temperatures(spec: str, model: Multimodal) -> list[TermTemperature]:
    """Those of the model's terms. Several models that are concatenated have none."""
    if len(models_of(spec)) > 1:
        return []
    found = pretrained(spec)
    space = build(SpaceConfig, {"model": found.model, **found.terms}, lambda key: spec)
    known = []
    for term in space.terms:
        with torch.no_grad():
            scale, bias = model.head.temperature(term.name)
        modalities = tuple(sorted(set(map(modality_of_vectors, term.between))))
        known.append(TermTemperature(modalities, float(scale), None if bias is None else float(bias)))
    return known
