"""How the learner scores the samples of a super-batch: as it trains on them, or at a smaller size and in bf16.

With `mixed`, a part of the kept samples is also trained at the size of scoring, so that the tower learns both sizes.
This is Flexi-JEST (Evans et al. 2024), which trains on half of them at each size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.sample import Batch, Field, ImageIntake, Intake
from tercet.data_pipelines.seeding import uniforms
from tercet.errors import UserError
from tercet.models.encoders.image import ImageEncoder
from tercet.models.multimodal import Multimodal
from tercet.models.reduction import Reduction, larger_patches, smaller_size
from tercet.training.selection.config import ScoringConfig

KEY = "selection.scoring"


@dataclass(frozen=True)
class Scoring:
    """What the learner gets to score. `mixed` is the share of the kept samples to train at the size of scoring.
    `decode_twice`: whether a super-batch has pictures of that size, and those of the kept samples are decoded again."""

    reduction: Reduction | None = None
    bf16: bool = False
    mixed: float = 0.0
    decode_twice: bool = False

    def view(self, batch: Batch) -> Batch:
        """The batch with smaller pictures. Only pictures of the tower's size are made smaller."""
        reduction = self.reduction
        if reduction is None:
            return batch
        smaller = {name: replace(field, values=reduction(field.values)) for name, field in self._reducible(batch)}
        return replace(batch, fields={**batch.fields, **smaller})

    def smaller(self, intakes: Mapping[str, Intake]) -> dict[str, ImageIntake]:
        """The intakes of the fields that are scored at a smaller size."""
        reduction = self.reduction
        if reduction is None:
            return {}
        pictures = {name: intake for name, intake in intakes.items() if isinstance(intake, ImageIntake)}
        return {name: reduction.intake(one) for name, one in pictures.items() if one.size == reduction.before}

    def decoded_small(self, fields: Mapping[str, FieldSpec]) -> dict[str, FieldSpec]:
        """The fields that a super-batch has at a smaller size, with this size."""
        if not self.decode_twice:
            return {}
        smaller = self.smaller({name: field.intake for name, field in fields.items()})
        return {name: replace(fields[name], intake=intake) for name, intake in smaller.items()}

    def mix(self, kept: Batch, seed: int, step: int, places: Sequence[int], strata: int) -> Batch:
        """Marks the samples to train at the size of scoring: the same number of each stratum, at random. `places` are
        the positions of the kept samples in the super-batch, so the marks do not depend on the number of ranks."""
        if not self.mixed:
            return kept
        noise_Sk = torch.from_numpy(uniforms("mixed sizes", seed, step, list(places), 1)).view(strata, -1)
        count = round(self.mixed * noise_Sk.shape[1])
        reduced_b = (noise_Sk.argsort(dim=1).argsort(dim=1) < count).flatten().to(kept.ids.device)
        marked = {name: replace(field, reduced=reduced_b[field.item]) for name, field in self._reducible(kept)}
        return replace(kept, fields={**kept.fields, **marked})

    def _reducible(self, batch: Batch) -> list[tuple[str, Field]]:
        reduction = self.reduction
        fields = [(name, field) for name, field in batch if field.modality == "image"]
        return [(name, field) for name, field in fields if reduction and reduction.fits(field.values)]


AS_TRAINED = Scoring()


def build_scoring(config: ScoringConfig | None, model: Multimodal, device: torch.device) -> Scoring:
    """Checks that the image tower can run at the size of scoring."""
    if config is None:
        return AS_TRAINED
    if not config.reduces:
        return Scoring(bf16=config.precision == "bf16")
    key = f"{KEY}.{'patch' if config.patch else 'size'}"
    tower = dict(model.towers.items()).get("image")
    if not isinstance(tower, ImageEncoder):
        raise UserError(f"{key}: the model has no image tower, and only pictures can be made smaller; remove it")
    reduction = _reduction(config, tower).to(device)
    _check(key, tower, reduction)
    if config.mixed and model.tokens:
        raise UserError(
            f"{KEY}.mixed: a term compares tokens of `{model.tokens[0]}`, which must be of one size; remove `mixed`"
        )
    model.reduction = reduction
    return Scoring(reduction, config.precision == "bf16", config.mixed, config.decode_twice)


def _reduction(config: ScoringConfig, tower: ImageEncoder) -> Reduction:
    size, patch = tower.intake.size, tower.patch
    if config.size:
        if config.size >= size[0]:
            raise UserError(f"{KEY}.size is {config.size}; set it below the {size[0]} pixels of the image tower")
        step = patch or 1
        if config.size % step:
            raise UserError(
                f"{KEY}.size is {config.size}; set it to a multiple of the tower's patches of {step} pixels"
            )
        return smaller_size(size, config.size)
    assert config.patch
    if patch is None:
        raise UserError(f"{KEY}.patch: the image tower does not cut pictures into square patches; use `size` instead")
    fitting = [side for side in range(patch + 1, min(size) + 1) if not any(length % side for length in size)]
    if config.patch not in fitting:
        known = ", ".join(map(str, fitting)) or "none; use `size` instead"
        raise UserError(
            f"{KEY}.patch is {config.patch}, but the tower has patches of {patch} and pictures of {size[0]} pixels; "
            f"set it to one of {known}"
        )
    return larger_patches(size, patch, config.patch)


@torch.no_grad()
def _check(key: str, tower: ImageEncoder, reduction: Reduction) -> None:
    values, _ = tower.dummy(reduction.rows_hH.device)
    training = tower.training
    try:
        tower.eval()(reduction(values))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{key}: the image tower does not accept pictures of {reduction.after[0]} pixels ({reason}); remove it, or "
            "choose a tower that does"
        ) from None
    tower.train(training)
