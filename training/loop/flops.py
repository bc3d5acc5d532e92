"""Counts the floating-point operations (FLOPs) of a run, so that one can compare runs with and without selection.

`count_flops` runs each tower on one row, forward and backward, under torch's counter. It counts matrix products,
convolutions and attention; a multiplication and an addition are two operations. Norms, activations, spectrograms,
projectors of terms and the loss are left out. The loss costs 6 N² d for N rows of d dimensions, far less than a tower.

A backward pass takes about two forward passes, so training on a row is about 3 forward passes; with locked blocks or
LoRA it is less. Captions are counted at the full context length, sounds at the length of a training crop, and pictures
with all patches, so the count is an upper bound if rows are shorter or `patch_dropout` leaves patches out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tercet.data_pipelines.sample import Batch, FeatureIntake, Field, Intake, TextIntake, channels_first
from tercet.modality import modality_of
from tercet.models.multimodal import Multimodal
from tercet.training.loop.scoring import AS_TRAINED, Scoring

LONG = "word " * 4096  # fills the context of any text tower


@dataclass(frozen=True)
class FieldFlops:
    """The FLOPs of one row of a field: those of the forward pass, and those of training on it."""

    forward: int
    training: int


@dataclass(frozen=True)
class Flops:
    """The FLOPs of one row of each field. Methods get the number of rows of each field, as from `rows_of`.

    `reduced` has the fields that are scored at a smaller size.
    """

    by_field: Mapping[str, FieldFlops]
    reduced: Mapping[str, FieldFlops] = field(default_factory=dict)

    def scoring(self, rows: Mapping[str, int]) -> int:
        """Embedding these rows without gradient: what the learner, or a reference, spends on a super-batch."""
        scored = {**self.by_field, **self.reduced}
        return sum(scored[name].forward * count for name, count in rows.items() if name in scored)

    def training(self, rows: Mapping[str, int], reduced: Mapping[str, int] | None = None) -> int:
        """Training on these rows, of which `reduced` are trained at the size of scoring: see `reduced_of`."""
        small = reduced or {}
        full = {name: count - small.get(name, 0) for name, count in rows.items() if name in self.by_field}
        return sum(self.by_field[name].training * count for name, count in full.items()) + sum(
            self.reduced[name].training * count for name, count in small.items()
        )


def rows_of(batch: Batch) -> dict[str, int]:
    """How many rows of each field a batch has on this rank."""
    return {name: len(rows) for name, rows in batch}


def reduced_of(batch: Batch) -> dict[str, int]:
    """How many of the rows on this rank are trained at the size of scoring."""
    return {name: int(rows.reduced.sum()) for name, rows in batch if rows.reduced is not None}


def count_flops(
    model: Multimodal, intakes: Mapping[str, Intake], micro_batch: int | None = None, scoring: Scoring = AS_TRAINED
) -> Flops:
    """The FLOPs of one row of each field, whose intakes are given by name. Changes nothing in the model.

    With `micro_batch`, a step runs the towers forward once more. Count before an engine shards the model.
    """
    cached, smaller = micro_batch is not None, scoring.smaller(intakes)
    return Flops(
        {name: _of_field(model, name, intake, cached) for name, intake in intakes.items()},
        {name: _of_field(model, name, intake, cached) for name, intake in smaller.items()},
    )


def count_step(model: Multimodal, intakes: Mapping[str, Intake]) -> int:
    """The FLOPs of training on one row of each field as a step does: without the patches that a tower leaves out, and
    with the projectors of terms. Changes nothing in the model."""
    device = next(model.parameters()).device
    rows = {name: _one_row(modality_of(name), intake, device) for name, intake in intakes.items()}
    none = torch.zeros(1, dtype=torch.int64, device=device)
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    with sdpa_kernel(SDPBackend.MATH), torch.random.fork_rng([]), torch.enable_grad(), _counter() as counter:
        vectors, _ = model(Batch(none, none, rows))
        _differentiate(torch.cat([one.flatten() for one in vectors.values()]), model)
    for module, training in modes:
        module.training = training
    return int(counter.get_total_flops())


def _of_field(model: Multimodal, name: str, intake: Intake, cached: bool) -> FieldFlops:
    row = _one_row(modality_of(name), intake, next(model.parameters()).device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with sdpa_kernel(SDPBackend.MATH), torch.random.fork_rng([]), torch.enable_grad():
        with _counter() as forward:
            vectors = model.encode(row)
        with _counter() as backward:
            _differentiate(vectors, model)
    for module, training in modes:
        module.training = training
    once = forward.get_total_flops()
    return FieldFlops(once, once * (2 if cached else 1) + backward.get_total_flops())


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False)


def _differentiate(vectors: Tensor, model: nn.Module) -> None:
    """Computes the gradients of all trained parameters, and drops them."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if vectors.requires_grad:
        torch.autograd.grad(vectors.sum(), trained, allow_unused=True)


def _one_row(modality: str, intake: Intake, device: torch.device) -> Field:
    item = torch.zeros(1, dtype=torch.int64, device=device)
    if isinstance(intake, TextIntake):
        return Field(modality, intake.tokenize([LONG]).to(device), item)
    values = torch.zeros(1, *intake.shape, dtype=getattr(torch, intake.dtype), device=device)
    lengths = torch.tensor([values.shape[1]], device=device) if intake.ragged else None
    cached = isinstance(intake, FeatureIntake)
    return Field(modality, channels_first(values, intake), item, lengths, cached=cached)
