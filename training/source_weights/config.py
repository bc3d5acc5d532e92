"""The recipe key `source_weights`. Imports no torch."""

from collections.abc import Iterable
from typing import Any

from pydantic import Field, field_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.plans.mixture import ROUND
from tercet.errors import UserError
from tercet.modality import of_memory
from tercet.models.term_config import TermConfig
from tercet.training.episodes.config import whole_steps


class SourceWeightsConfig(Config):
    """Changes the weights of the training sources while a stage trains, by Dynamic Gradient Alignment.

    A source gets more weight if a step on it also lowers the loss of a target set.
    """

    target: SplitConfig = Field(
        description="samples that the model should become good at: a folder, a pattern, a table, … with its options; "
        "it is not trained on"
    )
    every: int | float = Field(
        gt=0, description="steps from one change of the weights to the next; below 1, a share of the stage's steps"
    )
    rate: float = Field(
        1.0, gt=0, description="how fast the weights change: a weight is multiplied by exp(rate × alignment)"
    )
    normalize: bool = Field(
        True,
        description="alignment is the cosine of two gradients; otherwise their scalar product, which grows with the "
        "loss and needs a rate of its own",
    )
    floor: float = Field(0.05, gt=0, lt=1, description="the least weight of a source, of all weights together")
    decay: float = Field(0.0, ge=0, lt=1, description="share of the old weights in the new ones, which averages them")
    samples: int | None = Field(
        None,
        gt=1,
        description="how many samples of each source, and of the target, the gradients are computed from; default: as "
        "many as a step draws",
    )

    @field_validator("target", mode="before")
    @classmethod
    def _source_alone(cls, raw: Any) -> Any:
        return {"source": raw} if isinstance(raw, str | list | tuple) else raw

    def steps_in(self, stage: range) -> range:
        """The steps of a stage before which the weights change."""
        every = whole_steps(self.every, stage)
        return range(stage.start + every, stage.stop, every)

    def check(self, data: DataConfig, terms: Iterable[TermConfig], drawn: int) -> None:
        """Refuses data whose weights cannot change, a floor that leaves nothing, and terms that need memories."""
        if data.mode == "stream":
            raise Misfit("source_weights", "need samples with ids, which a stream lacks; set data.mode=index")
        if len(data.train) < 2:
            raise Misfit("source_weights", "need several training sources; name them as data.train.NAME")
        for name, source in data.train.items():
            if source.composed and data.mix == "within_batches":
                raise Misfit(
                    "source_weights",
                    f"change how many samples of `{name}` a batch has, which its neighbours or clusters depend on; set "
                    "data.mix=between_batches",
                )
        self._check_floor(data, drawn)
        for term in terms:
            kept = [name for name in term.fields if of_memory(name)] + ([term.prototypes] if term.prototypes else [])
            if kept:
                raise Misfit(
                    "source_weights",
                    f"compare gradients of the terms, but terms.{term.name} uses `{kept[0]}` of a memory, which has no "
                    "vectors of a target; leave one of them out",
                )

    def _check_floor(self, data: DataConfig, drawn: int) -> None:
        if self.floor * len(data.train) >= 1:
            raise Misfit(
                "source_weights.floor",
                f"is {self.floor:g}, which {len(data.train)} sources cannot all have; set it below "
                f"{1 / len(data.train):.3g}",
            )
        places = drawn if data.mix == "within_batches" else ROUND
        if self.floor * places < 1:
            what = f"samples of a batch of {places}" if data.mix == "within_batches" else f"batches of {ROUND}"
            raise Misfit(
                "source_weights.floor",
                f"is {self.floor:g}, which is {self.floor * places:.2g} {what}; set it to {1 / places:.3g} or more",
            )

    def samples_on(self, drawn: int, processes: int) -> int:
        """How many samples a gradient is computed from."""
        samples = self.samples or drawn
        if samples % processes:
            near = -(-samples // processes) * processes
            raise UserError(
                f"source_weights.samples is {samples}, which {processes} processes cannot share; take {near}"
            )
        return samples
