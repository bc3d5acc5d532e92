"""The recipe key `episodes`. Imports no torch."""

from collections.abc import Iterable

from pydantic import Field

from tercet.configs.base import Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES, modality_of
from tercet.models.config import TermConfig


class EpisodesConfig(Config):
    """When a stage embeds training samples with its current weights, and which of them.

    Memories and orders compute from the vectors what they need for the next steps, such as clusters.
    """

    every: int | float = Field(
        gt=0, description="steps from one episode to the next; below 1, a share of the stage's steps"
    )
    start: int | float | None = Field(
        None,
        ge=0,
        description="steps of the stage before its first episode; below 1, a share of them; 0: at the first step; "
        "default: `every`, so that the first steps train without clusters of weights that have learned nothing",
    )
    samples: int | None = Field(
        None, gt=0, description="how many samples to embed, drawn anew for each episode; default: all"
    )
    fields: tuple[str, ...] = Field(
        (),
        description="what to embed of each sample, such as [image, text]; default: the modalities of the first term",
    )

    def steps_in(self, stage: range) -> range:
        """The steps of a stage before which there is an episode."""
        every = max(1, _steps(self.every, stage))
        start = every if self.start is None else _steps(self.start, stage)
        return range(stage.start + start, stage.stop, every)

    def embedded(self, terms: Iterable[TermConfig]) -> tuple[str, ...]:
        """The modalities to embed."""
        first = next((term.between for term in terms), ())
        return self.fields or tuple(dict.fromkeys(map(modality_of, first)))

    def check(self, towers: Iterable[str]) -> None:
        """Refuses fields that a sample does not have by itself, and those without a tower."""
        known = list(towers)
        for name in self.fields:
            if name not in MODALITIES and modality_of(name) in MODALITIES:
                raise Misfit(
                    "episodes.fields",
                    f"has `{name}`, which the recipe adds. Episodes embed the picture, sound or caption of a sample; "
                    f"write {modality_of(name)}",
                )
            if name not in known:
                raise Misfit(
                    "episodes.fields", f"has `{name}`, for which the model has no tower; {did_you_mean(name, known)}"
                )


def _steps(value: int | float, stage: range) -> int:
    return round(value if value >= 1 else value * len(stage))
