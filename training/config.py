"""The config of a run: one recipe is one `RunConfig`. Imports no torch."""

from itertools import accumulate
from math import ceil
from typing import Any, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tercet.configs.base import Misfit, build
from tercet.configs.layers import nested
from tercet.data_pipelines.composition import EPISODE
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.fields import FieldConfig, check_field, check_pairs
from tercet.errors import UserError, did_you_mean
from tercet.eval.config import EvalConfig
from tercet.modality import MODALITIES, modality_of
from tercet.models.space import SpaceConfig
from tercet.training.checkpoints.config import BestConfig, CheckpointConfig
from tercet.training.engines.config import OptimizerConfig, ScheduleConfig
from tercet.training.episodes.config import EpisodesConfig
from tercet.training.features.cached import check_cached
from tercet.training.history.config import EarlyStoppingConfig
from tercet.training.hooks.config import LogConfig
from tercet.training.layering import RECIPE
from tercet.training.memory.config import EMA, EmaConfig, MemoryConfig
from tercet.training.memory.names import check_names, check_offered, with_kinds
from tercet.training.mixup.config import MixupConfig
from tercet.training.prototypes.config import batch_clusters, check_batch_clusters  # importing it registers memories
from tercet.training.selection.config import SelectionConfig
from tercet.training.source_weights.config import SourceWeightsConfig
from tercet.training.stage_config import StageConfig, check_contexts, check_stages, sum_of_steps
from tercet.training.stored import config as _stored  # noqa: F401  # registers memories


class RunConfig(SpaceConfig):
    """One complete run."""

    name: str = Field(description="the run's name")
    out: str | None = Field(None, description="the run's folder; default: runs/NAME")
    seed: int = Field(0, ge=0, lt=2**63)
    data: DataConfig
    fields: dict[str, FieldConfig] = Field(
        {},
        description="more fields for terms, besides each sample's picture, sound and caption: "
        "{text.negative: {from: json.negatives, rows: 4}}",
    )
    batch_size: int = Field(256, gt=1, description="samples that a step trains on, over all ranks")
    selection: SelectionConfig | None = Field(
        None,
        description="draw more than `batch_size` samples in each step, and choose those to train on",
    )
    micro_batch: int | None = Field(
        None, gt=0, description="rows that a rank processes at once, with gradient caching; default: all of its rows"
    )
    epochs: float | None = Field(
        None,
        gt=0,
        description="passes over all training samples, instead of `steps`; with `selection`, over all drawn samples",
    )
    steps: int = Field(
        1000,
        ge=0,
        description="optimizer steps; with `stages`, by default their sum; 0: evaluate `init` without training",
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    precision: Literal["fp32", "bf16"] = "bf16"
    zero: Literal[0, 1, 2, 3] = Field(
        1,
        description="ZeRO stage: what DeepSpeed shards over the processes; 0: nothing, 1: the optimizer state, "
        "2: also the gradients, 3: also the parameters",
    )
    clip: float = Field(1.0, ge=0, description="maximum norm of the whole gradient; 0: no clipping")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of averaged weights for evaluation; short for memories: {ema: {decay: …}}"
    )
    memories: dict[str, SerializeAsAny[MemoryConfig]] = Field(
        {}, description="values to keep from step to step, by name: {queue: {fields: [image], size: 4096}}"
    )
    episodes: EpisodesConfig | None = Field(
        None, description="embed training samples every so many steps, for memories that need their vectors"
    )
    source_weights: SourceWeightsConfig | None = Field(
        None, description="change the weights of the training sources, towards those that help on a target set"
    )
    mixup: MixupConfig | None = Field(
        None, description="mix the samples of a batch with each other in one modality, and their targets alike"
    )
    tile: int = Field(512, gt=0, description="columns of the logit matrix in memory at a time")
    checkpoint: CheckpointConfig = CheckpointConfig()
    eval: EvalConfig = EvalConfig()
    early_stopping: EarlyStoppingConfig | None = Field(None, description="end when evaluations no longer improve")
    log: LogConfig = LogConfig()
    stages: tuple[StageConfig, ...] = ()

    def counted(self, samples: int) -> "RunConfig":
        """The config with `epochs` converted to steps, for a given number of training samples."""
        if self.epochs is None:
            return self
        return self.model_copy(update={"epochs": None, "steps": ceil(self.epochs * samples / self.drawn)})

    @property
    def drawn(self) -> int:
        """How many samples a step draws. It trains on `batch_size` of them."""
        return self.selection.drawn(self.batch_size) if self.selection else self.batch_size

    @property
    def best(self) -> BestConfig | None:
        """Which evaluation is the best, if the run keeps its checkpoint."""
        return self.early_stopping or self.checkpoint.best

    @property
    def length(self) -> str:
        """The length of the run, in words."""
        return f"{self.steps} steps" if self.epochs is None else f"{self.epochs:g} epochs in steps"

    @property
    def lengths(self) -> list[int]:
        """The steps of each stage. Shares are rounded so that the stages add up to the run."""
        if not self.stages or self.stages[0].steps >= 1:
            return [int(stage.steps) for stage in self.stages] or [self.steps]
        ends = [round(self.steps * share) for share in accumulate(stage.steps for stage in self.stages)]
        return [end - start for start, end in zip((0, *ends), ends, strict=False)]

    def stage(self, index: int) -> "RunConfig":
        """The complete config during one stage. A run without `stages` is its own only stage."""
        if not self.stages:
            return self
        stage = self.stages[index]
        length = {"epochs": self.epochs * stage.steps} if self.epochs else {"steps": self.lengths[index]}
        values: dict[str, Any] = self.model_dump(mode="json") | {"stages": ()} | length
        for key, value in stage.set.items():
            values = RECIPE.lay(values, nested(key, value))
        return build(RunConfig, values, lambda key: f"{self.name}, stage `{stage.name}`")

    @property
    def all_memories(self) -> dict[str, MemoryConfig]:
        """The memories, including the one that `ema` is short for."""
        return dict(self.memories) | ({EMA: EmaConfig(kind=EMA, decay=self.ema)} if self.ema else {})

    @property
    def uses_episodes(self) -> list[str]:
        """The keys of the recipe that need the vectors of an episode."""
        memories = [f"memories.{name}" for name, memory in self.memories.items() if memory.uses_episodes]
        graphs = [name for name, one in self.data.train.items() if one.neighbors and one.neighbors.graph == EPISODE]
        neighbors = [f"data.train.{name}.neighbors" for name in graphs]
        return [*memories, *neighbors, *(f"data.train.{name}.clusters" for name in batch_clusters(self))]

    @field_validator("memories", mode="before")
    @classmethod
    def _memories_with_kinds(cls, raw: Any) -> Any:
        return with_kinds(raw)

    @model_validator(mode="after")
    def _memories_fit(self) -> "RunConfig":
        check_names(self.memories)
        if self.ema and EMA in self.memories:
            raise Misfit("ema", f"and `memories.{EMA}` are both given; keep one of them")
        check_batch_clusters(self)
        for name, memory in self.memories.items():
            memory.check(name, self)
        check_offered(self.memories, self.terms)
        return self

    @model_validator(mode="after")
    def _episodes_are_used(self) -> "RunConfig":
        if self.episodes is None:
            return self
        if not (self.uses_episodes or self.episodes.limits_training):
            raise Misfit("episodes", "are set, but nothing uses them; remove them, or add a memory that does")
        if self.data.mode == "stream":
            raise Misfit("episodes", "need samples with ids, which a stream lacks; set data.mode=index")
        self.episodes.check(MODALITIES if self.init else self.model.towers, self.terms, self.drawn)
        embedded = self.episodes.embedded(self.terms)
        for name, source in self.data.train.items():
            for field in source.neighbors.compare if source.neighbors and self.terms else ():
                if field not in embedded:
                    raise Misfit(
                        f"data.train.{name}.neighbors.compare",
                        f"has `{field}`, which episodes do not embed; {did_you_mean(field, embedded)}",
                    )
        return self

    @model_validator(mode="after")
    def _source_weights_can_change(self) -> "RunConfig":
        if self.source_weights:
            self.source_weights.check(self.data, self.terms, self.drawn)
        return self

    @model_validator(mode="after")
    def _mixup_fits(self) -> "RunConfig":
        if self.mixup:
            self.mixup.check(self.terms, self.batch_size)
            if self.selection and not self.selection.balanced:
                raise Misfit("mixup", "needs a selection that is `balanced`, so that the order of a batch is fixed")
        return self

    @model_validator(mode="after")
    def _fields_can_be_filled(self) -> "RunConfig":
        for name, field in self.fields.items():
            check_field(name, field)
            if field.graph is not None and self.data.mode == "stream":
                raise Misfit(f"fields.{name}.graph", "needs samples with ids: set `data.mode: index`")
        check_pairs(self.fields)
        known = [*(MODALITIES if self.init else self.model.towers), *self.fields]
        for term in self.terms:
            for name in (part for weights in term.sums.values() for part in weights):
                if name in self.fields and self.fields[name].rows > 1:
                    raise Misfit(
                        "terms", f"sums `{name}`, which may have several rows of a sample; set its `rows` to 1"
                    )
            for name in term.fields:
                if modality_of(name) in MODALITIES and name not in known:
                    key = "terms" if not self.pairs else "pairs" if name in term.between else "against"
                    raise Misfit(key, f"uses `{name}`; {did_you_mean(name, known)}; `fields` adds fields")
        return self

    @model_validator(mode="after")
    def _features_can_be_read(self) -> "RunConfig":
        check_cached(self)
        return self

    @model_validator(mode="before")
    @classmethod
    def _steps_of_stages(cls, raw: Any) -> Any:
        """Sets `steps` to the sum of the stages, unless the recipe sets it."""
        steps = sum_of_steps(raw.get("stages")) if isinstance(raw, dict) else 0
        return {"steps": steps} | raw if steps else raw

    @model_validator(mode="after")
    def _has_one_length(self) -> "RunConfig":
        if self.epochs is not None and any(stage.steps >= 1 for stage in self.stages):
            raise Misfit("epochs", "does not work with stages of a fixed number of steps; give shares that add up to 1")
        if self.epochs is not None and self.data.mode == "stream":
            raise Misfit("epochs", "does not work with streamed data; set `steps` instead, or data.mode=index")
        return self

    @model_validator(mode="after")
    def _draws_whole_strata(self) -> "RunConfig":
        if self.selection:
            self.selection.strata_of(self.batch_size)
            if self.selection.decodes_twice and self.data.mode == "stream":
                raise Misfit(
                    "selection.scoring.decode_twice",
                    "reads samples again by their ids, which a stream lacks; set data.mode=index",
                )
        return self

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> "RunConfig":
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise Misfit("micro_batch", f"is {self.micro_batch}, more than batch_size {self.batch_size}; remove it")
        return self

    @model_validator(mode="after")
    def _best_is_evaluated(self) -> "RunConfig":
        if self.early_stopping and self.checkpoint.best:
            raise Misfit(
                "checkpoint.best", "and `early_stopping`, which keeps the best one too, are both set; keep one"
            )
        if self.best:
            self.best.check(self.eval)
        return self

    @model_validator(mode="after")
    def _masks_move_with_their_pictures(self) -> "RunConfig":
        image = self.model.towers.get("image")
        if image and image.alpha and self.data.augment.image.randaugment:
            raise Misfit("data.augment.image.randaugment", "would move pictures without their masks; set it to null")
        if self.data.augment.image.full_alpha and not (image and image.alpha):
            raise Misfit("data.augment.image.full_alpha", "needs masks; set model.image.alpha=true, or leave it out")
        return self

    @model_validator(mode="after")
    def _lora_is_not_sharded(self) -> "RunConfig":
        if self.zero == 3 and any(tower.lora for tower in self.model.towers.values()):
            raise Misfit("zero", "is 3, which does not work with `lora`; set it to 2 or less")
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> "RunConfig":
        check_contexts(self)
        check_stages(self)
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Writes the name first, and either `epochs` or `steps`."""
        written = {"name": self.name} | super()._as_written(handler)
        return written if self.epochs is None else {key: value for key, value in written.items() if key != "steps"}


def check_steps(config: RunConfig) -> None:
    """Raises `UserError` if a run would do nothing. A single stage may have no steps, if stages are shares."""
    if config.steps == 0 and config.epochs is None and config.init is None:
        raise UserError("`steps` is 0, which evaluates `init` without training; give `init`, or train 1 step or more")
