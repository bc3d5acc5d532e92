"""The recipe key `mixup`. Imports no torch."""

from collections.abc import Sequence

from pydantic import Field

from tercet.configs.base import Config, Misfit
from tercet.errors import UserError
from tercet.modality import MODALITIES
from tercet.models.term_config import TermConfig

MOST_STRATA, LEAST_MIXED = 256, 8


class MixupConfig(Config):
    """Mixes each sample of a batch with another one, in one modality, and its target alike (ZeroVL, Cui et al. 2022).

    Each step draws the modality and the share λ of a sample itself. Pictures are mixed pixel by pixel, texts and sounds
    as vectors.
    """

    alpha: float = Field(
        0.1, gt=0, description="λ is drawn from Beta(alpha, alpha): the lower, the more often it is close to 0 or to 1"
    )
    fields: tuple[str, ...] = Field(
        ("image", "text"),
        min_length=1,
        description="the modalities, one of which each step mixes, drawn by a coin; never several",
    )
    strata: int | None = Field(
        None,
        gt=0,
        description="number of equal parts of a batch: a sample is mixed with one of its own part. Give a multiple of "
        "the number of processes; then that number does not change the result. Default: the largest power of two up to "
        f"{MOST_STRATA} that leaves {LEAST_MIXED} samples in each part",
    )

    def check(self, terms: Sequence[TermConfig], batch_size: int) -> None:
        """Refuses modalities that no term compares, and terms between a mixed field and one that keeps its samples."""
        self.strata_of(batch_size)
        for name in self.fields:
            if name not in MODALITIES:
                raise Misfit("mixup.fields", f"has `{name}`, which is not a modality; give some of {list(MODALITIES)}")
        for name in self.fields:
            if terms and not any(name in term.between for term in terms):
                raise Misfit("mixup.fields", f"has `{name}`, which no term compares; remove it")
        for term in terms:
            other = next((name for name in term.between if name not in self.fields), None)
            for key in ("sums", "projector"):
                if getattr(term, key) and {*term.compared} & {*self.fields}:
                    raise Misfit("mixup", f"does not work with `{key}` of the term `{term.name}`; remove one of them")
            if other and {*term.between} & {*self.fields}:
                raise Misfit(
                    "mixup.fields", f"lacks `{other}`, which the term `{term.name}` compares with mixed samples"
                )

    def strata_of(self, batch_size: int) -> int:
        """The number of parts of a batch."""
        if self.strata is None:
            most = max(1, batch_size // LEAST_MIXED)
            powers = [1 << power for power in range(MOST_STRATA.bit_length())]
            return max(count for count in powers if count <= most and batch_size % count == 0)
        if batch_size % self.strata:
            raise Misfit("mixup.strata", f"is {self.strata}, which does not divide batch_size {batch_size}; change one")
        return self.strata

    def strata_on(self, batch_size: int, processes: int) -> int:
        """The number of parts that each process has."""
        count = self.strata_of(batch_size)
        if count % processes:
            raise UserError(
                f"mixup.strata is {count}, which is not a multiple of {processes} processes; set it to one that also "
                f"divides batch_size {batch_size}"
            )
        return count // processes
