"""Batches that gradients are computed from: some samples of each training source, and of the target.

They are drawn as in training, with random crops and captions, in an order of their own. A later change of the weights
draws the samples that follow.
"""

from collections.abc import Mapping
from functools import cached_property

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig, SourceConfig, SplitConfig
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.plans.order import own_seed
from tercet.data_pipelines.plans.plan import Plan
from tercet.data_pipelines.preflight.modalities import check_modalities
from tercet.data_pipelines.sample import Batch, Intake
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.modality import modality_of
from tercet.training.config import RunConfig

TARGET = "target"


class Probes:
    """The batches of one stage."""

    def __init__(self, config: RunConfig, sources: OpenedSources, world: World) -> None:
        assert config.source_weights is not None
        self.config, self.sources, self.world = config, sources, world
        self.target = config.source_weights.target
        self.samples = config.source_weights.samples_on(config.drawn, world.size)

    def check(self, plan: Plan, fields: list[str]) -> None:
        """Refuses sources with too few samples, and a target without the modalities that are trained. A collective."""
        check_modalities({TARGET: self.target}, {TARGET: self._opened_target}, sorted(set(map(modality_of, fields))))
        sizes = {share.name: share.samples for share in plan.shares} | {TARGET: len(self._opened_target)}
        for name, samples in sizes.items():
            if samples < self.samples:
                what = "source_weights.target" if name == TARGET else f"data.train.{name}"
                raise UserError(
                    f"{what} holds {samples:,} samples, but source_weights.samples is {self.samples:,}; set it to "
                    f"{samples // self.world.size * self.world.size} or less"
                )

    def of_target(self, number: int, intakes: Mapping[str, Intake], further: Mapping[str, FieldSpec]) -> Batch:
        """The batch of the target at a change of the weights. `number`: how many changes came before."""
        return self._batch(TARGET, as_training(self.target), self._opened_target, number, intakes, further)

    def of_source(
        self, name: str, number: int, intakes: Mapping[str, Intake], further: Mapping[str, FieldSpec]
    ) -> Batch:
        """The batch of a training source. It does not depend on its neighbours and clusters."""
        one = self.config.data.train[name]
        source = self.sources.open(self.config.data, one)
        alone = one.model_copy(update={"repeat": True, "neighbors": None, "clusters": None})
        return self._batch(name, alone, source, number, intakes, further)

    @cached_property
    def _opened_target(self) -> Source:
        return self.sources.open_first(self.config.data, self.target, self.world)

    def _batch(
        self,
        name: str,
        one: SourceConfig,
        source: Source,
        number: int,
        intakes: Mapping[str, Intake],
        further: Mapping[str, FieldSpec],
    ) -> Batch:
        loader = Loader(
            _alone(self.config.data, name, one), {name: source}, intakes, self.samples,
            seed=own_seed("source_weights", self.config.seed), rank=self.world.rank, world=self.world.size,
            start={name: number * self.samples}, further=further,
        )  # fmt: skip
        return next(iter(loader)).to(self.world.device)


def _alone(data: DataConfig, name: str, one: SourceConfig) -> DataConfig:
    """The data of one source. Threads decode it, because they start at once."""
    workers = 0 if data.augment.image.draws_globally else data.workers
    update = {"train": {name: one}, "weights": None, "workers": workers, "worker": "thread"}
    return data.model_copy(update=update)


def as_training(target: SplitConfig) -> SourceConfig:
    """A source that is not trained on, with the options of one that is."""
    return SourceConfig.model_validate(target.model_dump(mode="json"))
