"""The recipe key `episodes`. Imports no torch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from tercet.configs.base import Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES, modality_of, modality_of_vectors
from tercet.models.term_config import TermConfig

if TYPE_CHECKING:
    from tercet.training.config import RunConfig


class CurateConfig(Config):
    """Which of the drawn samples to train on: those whose captions are close to texts of a task, as in CiT."""

    metadata: str = Field(
        description="a file with a text on each line, such as the names of the classes of a task or prompts with them"
    )
    threshold: float = Field(
        0.55, ge=-1, le=1, description="keeps a sample if the cosine of its caption and some text is higher"
    )
    min_ratio: float = Field(
        0.003,
        ge=0,
        le=1,
        description="share of the drawn samples of each source to keep at least, the most similar ones; never less "
        "than a batch",
    )


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
    train_on: Literal["all", "drawn"] = Field(
        "all", description="what the steps after an episode train on: all samples, or those that it drew"
    )
    curate: CurateConfig | None = Field(
        None, description="train on those of the drawn samples whose captions are close to texts of a task (CiT)"
    )

    @model_validator(mode="after")
    def _draws_some(self) -> "EpisodesConfig":
        if self.train_on == "drawn" and self.samples is None:
            raise Misfit("train_on", "is `drawn`, but an episode draws all samples; set `samples`, or leave this out")
        return self

    @model_validator(mode="after")
    def _trains_on_one_choice(self) -> "EpisodesConfig":
        if self.train_on == "drawn" and self.curate:
            raise Misfit(
                "curate", "chooses among the drawn samples, so it replaces `train_on: drawn`; remove `train_on`"
            )
        return self

    @property
    def limits_training(self) -> bool:
        """Whether the steps after an episode train on some of the samples."""
        return self.train_on == "drawn" or self.curate is not None

    def steps_in(self, stage: range) -> range:
        """The steps of a stage before which there is an episode."""
        every = whole_steps(self.every, stage)
        start = every if self.start is None else whole_steps(self.start, stage, least=0)
        return range(stage.start + start, stage.stop, every)

    def embedded(self, terms: Iterable[TermConfig]) -> tuple[str, ...]:
        """The modalities to embed."""
        first = next((term.between for term in terms), ())
        return self.fields or tuple(dict.fromkeys(map(modality_of_vectors, first)))

    def check(self, towers: Iterable[str], terms: Iterable[TermConfig], batch: int) -> None:
        """Refuses fields that a sample does not have by itself, those without a tower, curation without captions, and
        too few samples for a batch."""
        if self.curate and "text" not in self.embedded(terms):
            raise Misfit(
                "episodes.curate", "compares captions, which episodes do not embed; add text to episodes.fields"
            )
        if self.limits_training and self.samples is not None and self.samples < batch:
            raise Misfit("episodes.samples", f"is {self.samples:,}, but a step needs {batch:,} samples; raise it")
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


def draws(stage: "RunConfig") -> bool:
    """Whether the stage trains on samples that an episode drew."""
    return stage.episodes is not None and stage.episodes.limits_training


def whole_steps(value: int | float, stage: range, least: int = 1) -> int:
    """A number of steps, which a recipe may give as a share of the steps of a stage."""
    return max(least, round(value if value >= 1 else value * len(stage)))
