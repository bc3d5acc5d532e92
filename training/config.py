"""The config of a run: one recipe is one `RunConfig`. Imports no torch."""

from itertools import accumulate, pairwise
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

from tercet.configs.base import Config, Misfit, build
from tercet.configs.layers import nested
from tercet.data_pipelines.composition import EPISODE
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.fields import FieldConfig, check_field, check_pairs
from tercet.errors import UserError, did_you_mean
from tercet.eval.config import EvalConfig
from tercet.modality import MODALITIES, modality_of
from tercet.models.space import SpaceConfig
from tercet.training.cached import check_cached
from tercet.training.episodes.config import EpisodesConfig
from tercet.training.layering import RECIPE
from tercet.training.memory.config import EMA, EmaConfig, MemoryConfig
from tercet.training.memory.names import check_names, check_offered, with_kinds
from tercet.training.mixup.config import MixupConfig
from tercet.training.prototypes.config import batch_clusters, check_batch_clusters  # importing it registers memories
from tercet.training.selection.config import SelectionConfig
from tercet.training.source_weights.config import SourceWeightsConfig
from tercet.training.stored import config as _stored  # noqa: F401  # registers memories

Logger = Literal["console", "tensorboard", "wandb"]

# The keys that a stage may change. All others hold for the whole run.
STAGED = (
    "data", "fields", "pairs", "against", "terms", "objective", "optimizer", "schedule", "batch_size", "micro_batch",
    "selection", "episodes", "source_weights", "mixup",
)  # fmt: skip
STAGED_OF_TOWERS = ("model.image.size", "model.image.patch_dropout", "model.text.context_length")
STAGED_OF_ANY = ("unlocked", "cached")  # of each tower


class OptimizerConfig(Config):
    """The optimizer, by its registered name. Parameters below two dimensions have no weight decay."""

    name: str = "adamw"
    lr: float = Field(5e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.2, ge=0)
    scale_lr: float = Field(1.0, gt=0, description="learning rate of temperatures and biases relative to `lr`")


class ScheduleConfig(Config):
    """The learning rate over the steps of a stage."""

    name: Literal["cosine", "constant"] = "cosine"
    warmup: int | float = Field(0, ge=0, description="steps of linear warm-up; below 1, a share of all steps")
    cooldown: int = Field(0, ge=0, description="constant only: the last steps, with a linear decrease to `floor`")
    floor: float = Field(0.0, ge=0, lt=1, description="the final learning rate, as a share of the peak")


class CheckpointConfig(Config):
    """When tercet saves checkpoints, and how many it keeps."""

    every: int | None = Field(
        None, gt=0, description="steps between checkpoints; default: one at the end of each stage"
    )
    keep: int = Field(2, gt=0, description="how many of the newest checkpoints to keep")


class EarlyStoppingConfig(Config):
    """Ends a run when its evaluations no longer improve. The run then has the weights of its best evaluation."""

    task: str = Field("retrieval", description="one of `eval.tasks`")
    metric: str = Field("R@1", description="a metric that is better if it is higher; averaged over subjects and splits")
    patience: int = Field(
        3, gt=0, description="the number of evaluations in a row without improvement that ends the run"
    )

    @model_validator(mode="after")
    def _higher_is_better(self) -> "EarlyStoppingConfig":
        if self.metric.endswith("rank"):
            raise Misfit(
                "metric", f"`{self.metric}` is better if it is lower; give one that is better if higher, as R@1"
            )
        return self


class LogConfig(Config):
    """The loggers of a run. tercet always writes metrics.jsonl, too."""

    every: int = Field(10, gt=0, description="steps between two lines; lines in a log file are also at least 5 s apart")
    to: tuple[Logger, ...] = Field(("console",), description="loggers: console, tensorboard, wandb")
    analysis: bool = Field(
        True,
        description="every `every` steps, also measure the embedding space, such as alignment and uniformity",
    )


class StageConfig(Config):
    """One part of a run: its length, and the keys of the recipe that it changes."""

    name: str
    steps: int | float = Field(gt=0, description="optimizer steps; below 1, a share of the run's steps")
    set: dict[str, Any] = Field({}, description="keys to change: {optimizer.lr: 1e-4, model.image.unlocked: 2}")

    @model_validator(mode="after")
    def _sets_what_a_stage_may(self) -> "StageConfig":
        of_any = (f"model.{modality}.{key}" for modality in MODALITIES for key in STAGED_OF_ANY)
        known = [*STAGED, *STAGED_OF_TOWERS, *of_any]
        for key in self.set:
            if key not in known and key.partition(".")[0] not in STAGED:
                raise Misfit(f"set.{key}", f"cannot change in a stage; {did_you_mean(key, known)}")
        return self


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
        steps = _sum_of_steps(raw.get("stages")) if isinstance(raw, dict) else 0
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
    def _early_stopping_is_evaluated(self) -> "RunConfig":
        if self.early_stopping is None:
            return self
        if not (self.eval.every and self.data.val):
            raise Misfit("early_stopping", "needs evaluations during the run: set `eval.every` and `data.val`")
        if self.early_stopping.task not in self.eval.tasks:
            known = ", ".join(self.eval.tasks)
            raise Misfit(
                "early_stopping.task", f"is `{self.early_stopping.task}`, which is not one of `eval.tasks`: {known}"
            )
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
    def _contexts_can_grow(self) -> "RunConfig":
        """Refuses a longer context whose positions could not be stretched, before the stages ahead of it train."""
        key = "model.text.context_length"
        text = self.model.towers.get("text")
        if text is None or not any(key in stage.set for stage in self.stages):
            return self
        if text.context_length is None:
            raise Misfit(key, "is missing: a stage changes it, so give it a value for the other stages")
        towers = [self.stage(index).model.towers["text"] for index in range(len(self.stages))]
        lengths = [tower.context_length or text.context_length for tower in towers]
        for index, (before, after) in enumerate(pairwise(lengths), start=1):
            if before < after and before - text.keep_positions < 2:
                raise Misfit(
                    f"stages.{index}.set.{key}",
                    f"is {after} after {before}, of which model.text.keep_positions={text.keep_positions} leaves fewer "
                    f"than 2 to stretch; set that to {before - 2} or less",
                )
        return self

    @model_validator(mode="after")
    def _stages_add_up(self) -> "RunConfig":
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise Misfit("stages", "has two stages of the same name; rename one of them")
        total = sum(stage.steps for stage in self.stages)
        if any(stage.steps < 1 for stage in self.stages):
            if abs(total - 1) > 1e-9:
                raise Misfit("stages", f"has shares that add up to {total:g}; make them add up to 1")
        elif self.stages and total != self.steps:
            raise Misfit("steps", f"is {self.steps}, but the stages add up to {total}; remove `steps`")
        for index in range(len(self.stages)):
            self.stage(index)
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


def _sum_of_steps(stages: Any) -> int:
    """The sum of the stages' steps; 0 if they are malformed, because their own validation reports that."""
    if not isinstance(stages, list | tuple) or not all(isinstance(stage, dict) for stage in stages):
        return 0
    steps = [stage.get("steps") for stage in stages]
    return sum(count for count in steps if isinstance(count, int))
