"""The recipe key `selection`. Imports no torch."""

from fractions import Fraction
from math import gcd
from typing import Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from typing_extensions import Self

from tercet.configs.base import Component, Config, Misfit
from tercet.errors import UserError

FINEST = 1000  # `filter_ratio` is read as a fraction with at most this denominator: 0.3333 means a third
MOST_STRATA, LEAST_KEPT = 256, 8


class ScoringConfig(Config):
    """How the learner scores the drawn samples, to save time: pictures at a smaller size, and bf16.

    A reference model is not affected.
    """

    patch: int | None = Field(
        None,
        gt=0,
        description="cut pictures into larger patches of so many pixels (FlexiViT), for an image tower that is a ViT",
    )
    size: int | None = Field(None, gt=0, description="resize pictures to this height in pixels, for any image tower")
    decode_twice: bool = Field(
        False,
        description="with `size`: decode the drawn pictures at that size, and only the chosen ones again at full size; "
        "this saves memory, and time where pictures are changed much. A reference model gets the small pictures, too",
    )
    precision: Literal["bf16"] | None = Field(
        None, description="bf16: score in bf16, whatever the precision of the run; default: the run's"
    )
    mixed: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the kept samples to train at the `patch` or `size` of scoring, so that the tower learns "
        "both sizes (Flexi-JEST: 0.5)",
    )

    @property
    def reduces(self) -> bool:
        """Whether pictures are smaller than in training."""
        return bool(self.patch or self.size)

    @model_validator(mode="after")
    def _saves_something(self) -> "ScoringConfig":
        if self.patch and self.size:
            raise Misfit("size", "and `patch` are both set; keep one of them")
        if self.decode_twice and not self.size:
            raise Misfit("decode_twice", "needs a size to decode at first; set `size`")
        if self.mixed and not self.reduces:
            raise Misfit("mixed", "needs a size to train at; set `patch` or `size`")
        return self


class SelectionConfig(Component):
    """Draws more samples than a step trains on, and trains on those that a rule chooses.

    The learner scores the samples as in training, with the same random crop, caption and masks, but without dropout.
    All other keys are options of the rule.
    """

    name: str = Field(description="the rule: random, loss, confident, jest, replay, or one that a plugin registers")
    filter_ratio: float = Field(
        ge=0, lt=1, description="share of the drawn samples to drop: a step draws batch_size / (1 - filter_ratio)"
    )
    strata: int | None = Field(
        None,
        gt=0,
        description="number of equal parts of the drawn samples; each part keeps the same number of samples. Give a "
        "multiple of the number of processes; then that number does not change the selection. Default: the largest "
        f"power of two up to {MOST_STRATA} that keeps at least {LEAST_KEPT} samples of each part",
    )
    balanced: bool = Field(
        True,
        description="keep the same number of samples of each of the `strata`; false: keep the best of all drawn "
        "samples, and exchange them so that all processes train on equally many",
    )
    scoring: ScoringConfig | None = Field(
        None, description="score the samples at less cost than they are trained at, such as {size: 112}"
    )
    bad: str | None = Field(
        None,
        description="the one of `data.values` that is 1 for samples that are known to be bad, and else 0; the metrics "
        "then have their share among the drawn and among the chosen samples",
    )
    record: bool = Field(
        True,
        description="write the ids of the kept samples to selection.jsonl in the run's folder, and a few examples for "
        "the report",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _unknown_rule_first(cls, raw: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Of several mistakes, the first to name is an unknown rule: which keys fit depends on the rule."""
        try:
            return validate(raw)
        except ValidationError:
            name = raw.get("name") if isinstance(raw, dict) else raw
            if isinstance(name, str):
                from tercet.training.selection.select import check_rule

                check_rule(name)
            raise

    def drawn(self, batch_size: int) -> int:
        """How many samples a step draws to train on `batch_size` of them."""
        kept = Fraction(1 - self.filter_ratio).limit_denominator(FINEST)
        if not kept:
            raise Misfit("selection.filter_ratio", f"is {self.filter_ratio:g}; set it to {1 - 1 / FINEST:g} or less")
        drawn: Fraction = batch_size / kept
        if drawn.denominator > 1:
            below = batch_size // kept.numerator * kept.numerator
            sizes = " or ".join(str(size) for size in (below, below + kept.numerator) if size > 1)
            raise Misfit(
                "selection.filter_ratio",
                f"is {self.filter_ratio:g}, so a step would draw {batch_size} / {float(kept):g} = {float(drawn):.1f} "
                f"samples; set batch_size to {sizes}",
            )
        return int(drawn)

    @property
    def decodes_twice(self) -> bool:
        return self.scoring is not None and self.scoring.decode_twice

    def strata_of(self, batch_size: int) -> int:
        """The number of strata. All strata have the same size, and keep the same number of samples."""
        common = gcd(batch_size, self.drawn(batch_size))
        if self.strata is None:
            powers = [1 << power for power in range(MOST_STRATA.bit_length())]
            most = max(1, batch_size // LEAST_KEPT)
            return max(count for count in powers if count <= most and common % count == 0)
        if common % self.strata:
            raise Misfit(
                "selection.strata",
                f"is {self.strata}, which does not divide both the {self.drawn(batch_size)} samples that a step draws "
                f"and the {batch_size} that it keeps; set it to a divisor of {common}",
            )
        return self.strata

    def strata_on(self, batch_size: int, processes: int) -> int:
        """The number of strata of each process."""
        count, common = self.strata_of(batch_size), gcd(batch_size, self.drawn(batch_size))
        if count % processes:
            fitting = [one for one in range(processes, common + 1, processes) if common % one == 0]
            near = min(fitting, key=lambda one: abs(one - count), default=None)
            fix = f"set it to {near}" if near else f"set batch_size to a multiple of {processes}"
            raise UserError(f"selection.strata is {count}, which is not a multiple of {processes} processes; {fix}")
        return count // processes
