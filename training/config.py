"""The whole run's config tree: one recipe is one `RunConfig`. Imports no torch."""

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

from tercet.configs.base import Config, Misfit, build
from tercet.configs.layers import nested
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.fields import FieldConfig, check_field
from tercet.errors import UserError, did_you_mean
from tercet.eval.config import EvalConfig
from tercet.modality import MODALITIES, modality_of
from tercet.models.space import SpaceConfig
from tercet.training.layering import RECIPE
from tercet.training.memory.config import EMA, EmaConfig, MemoryConfig, check_names, check_offered, with_kinds
from tercet.training.selection.config import SelectionConfig

Logger = Literal["console", "tensorboard", "wandb"]

# What a stage may change; everything else is one and the same for the whole run.
STAGED = (
    "data", "fields", "pairs", "against", "terms", "objective", "optimizer", "schedule", "batch_size", "micro_batch",
    "selection",
)  # fmt: skip


class OptimizerConfig(Config):
    """A registered optimizer. Parameters below two dimensions never decay."""

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
    cooldown: int = Field(0, ge=0, description="constant only: last steps that fall linearly to `floor`")
    floor: float = Field(0.0, ge=0, lt=1, description="the lowest share of the peak")


class CheckpointConfig(Config):
    """When a run is saved and how many checkpoints stay."""

    every: int | None = Field(None, gt=0, description="steps between checkpoints; nothing: at the end of the run only")
    keep: int = Field(2, gt=0, description="how many of the newest stay")


class EarlyStoppingConfig(Config):
    """When evaluations say that a run no longer gets better: it ends, with the weights of its best evaluation."""

    task: str = Field("retrieval", description="one of `eval.tasks`")
    metric: str = Field("R@1", description="of which higher is better; its mean over subjects and splits counts")
    patience: int = Field(3, gt=0, description="evaluations in a row that may bring nothing better")

    @model_validator(mode="after")
    def _higher_is_better(self) -> "EarlyStoppingConfig":
        if self.metric.endswith("rank"):
            raise Misfit("metric", f"`{self.metric}` is better where it is lower; take one that grows, as R@1")
        return self


class LogConfig(Config):
    """Who is told of the run's progress; metrics.jsonl always is."""

    every: int = Field(10, gt=0, description="steps between two lines; in a log file, at least 5 seconds as well")
    to: tuple[Logger, ...] = Field(("console",), description="loggers by name")


class StageConfig(Config):
    """One stretch of a run: its steps, and dotted keys of the recipe that differ while it lasts."""

    name: str
    steps: int | float = Field(gt=0, description="its steps; below 1, its share of the run's")
    set: dict[str, Any] = Field({}, description="what differs: {optimizer.lr: 1e-4, model.image.unlocked: 2}")

    @model_validator(mode="after")
    def _sets_what_a_stage_may(self) -> "StageConfig":
        for key in self.set:
            model, *tower = key.split(".")
            unlocks = model == "model" and len(tower) == 2 and tower[0] in MODALITIES and tower[1] == "unlocked"
            if model not in STAGED and not unlocks:
                known = [*STAGED, *(f"model.{modality}.unlocked" for modality in MODALITIES)]
                raise Misfit(f"set.{key}", f"is not for a stage to change; {did_you_mean(key, known)}")
        return self


class RunConfig(SpaceConfig):
    """One complete run."""

    name: str = Field(description="the run's name; its folder is runs/NAME unless `out` says otherwise")
    out: str | None = Field(None, description="the run's folder")
    seed: int = Field(0, ge=0, lt=2**63)
    data: DataConfig
    fields: dict[str, FieldConfig] = Field(
        {},
        description="what terms may use beside each sample's picture, sound and caption: "
        "{text.negative: {from: json.negatives, rows: 4}}",
    )
    batch_size: int = Field(256, gt=1, description="samples that a step trains on, over all ranks")
    selection: SelectionConfig | None = Field(
        None,
        description="draw more than `batch_size` samples a step, and choose those to train on; the model scores them "
        "with the augmentation that it would train on",
    )
    micro_batch: int | None = Field(
        None, gt=0, description="rows that a rank holds in memory at once; turns on gradient caching"
    )
    epochs: float | None = Field(
        None,
        gt=0,
        description="passes over all training samples, in place of `steps`; with `selection`, counts all drawn samples",
    )
    steps: int = Field(
        1000,
        ge=0,
        description="optimizer steps; the sum of the stages' where there are any; 0: evaluate `init` without training",
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    precision: Literal["fp32", "bf16"] = "bf16"
    zero: Literal[0, 1, 2, 3] = Field(
        1, description="what DeepSpeed shards over several processes: nothing, optimizer, gradients, parameters"
    )
    clip: float = Field(1.0, ge=0, description="largest norm of the whole gradient; 0 leaves it as it is")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of averaged weights for evaluation; short for memories: {ema: {decay: …}}"
    )
    memories: dict[str, SerializeAsAny[MemoryConfig]] = Field(
        {}, description="what the run remembers from step to step, by name: {queue: {fields: [image], size: 4096}}"
    )
    tile: int = Field(512, gt=0, description="columns of the logit matrix that exist at a time")
    checkpoint: CheckpointConfig = CheckpointConfig()
    eval: EvalConfig = EvalConfig()
    early_stopping: EarlyStoppingConfig | None = Field(None, description="end when evaluations no longer get better")
    log: LogConfig = LogConfig()
    stages: tuple[StageConfig, ...] = ()

    def counted(self, samples: int) -> "RunConfig":
        """The run with its steps, where it gave epochs."""
        if self.epochs is None:
            return self
        return self.model_copy(update={"epochs": None, "steps": ceil(self.epochs * samples / self.drawn)})

    @property
    def drawn(self) -> int:
        """How many samples a step draws; it trains on `batch_size` of them."""
        return self.selection.drawn(self.batch_size) if self.selection else self.batch_size

    @property
    def length(self) -> str:
        """How long the run is, in words."""
        return f"{self.steps} steps" if self.epochs is None else f"{self.epochs:g} epochs in steps"

    @property
    def lengths(self) -> list[int]:
        """The steps of each stage; shares are rounded so that they add up."""
        if not self.stages or self.stages[0].steps >= 1:
            return [int(stage.steps) for stage in self.stages] or [self.steps]
        ends = [round(self.steps * share) for share in accumulate(stage.steps for stage in self.stages)]
        return [end - start for start, end in zip((0, *ends), ends, strict=False)]

    def stage(self, index: int) -> "RunConfig":
        """The run as it is during one stage: a complete config without stages; a run without stages is its only one."""
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
        """The memories with the one that `ema` is short for."""
        return dict(self.memories) | ({EMA: EmaConfig(kind=EMA, decay=self.ema)} if self.ema else {})

    @field_validator("memories", mode="before")
    @classmethod
    def _memories_with_kinds(cls, raw: Any) -> Any:
        return with_kinds(raw)

    @model_validator(mode="after")
    def _memories_fit(self) -> "RunConfig":
        check_names(self.memories)
        if self.ema and EMA in self.memories:
            raise Misfit("ema", f"and `memories.{EMA}` are both given; keep one of them")
        for name, memory in self.memories.items():
            memory.check(name, self)
        check_offered(self.memories, self.terms)
        return self

    @model_validator(mode="after")
    def _fields_can_be_filled(self) -> "RunConfig":
        for name, field in self.fields.items():
            check_field(name, field)
        known = [*(MODALITIES if self.init else self.model.towers), *self.fields]
        for term in self.terms:
            for name in term.fields:
                if modality_of(name) in MODALITIES and name not in known:
                    key = "terms" if not self.pairs else "pairs" if name in term.between else "against"
                    raise Misfit(key, f"uses `{name}`; {did_you_mean(name, known)}; `fields` adds fields")
        return self

    @model_validator(mode="before")
    @classmethod
    def _steps_of_stages(cls, raw: Any) -> Any:
        """Stages add up to the steps."""
        steps = _sum_of_steps(raw.get("stages")) if isinstance(raw, dict) else 0
        return {"steps": steps} | raw if steps else raw

    @model_validator(mode="after")
    def _length_is_said_once(self) -> "RunConfig":
        if self.epochs is not None and any(stage.steps >= 1 for stage in self.stages):
            raise Misfit("epochs", "does not go with stages that give their steps; give shares, which add up to 1")
        if self.epochs is not None and self.data.mode == "stream":
            raise Misfit("epochs", "needs data that can be counted: give `steps`, or set data.mode=index")
        return self

    @model_validator(mode="after")
    def _draws_whole_strata(self) -> "RunConfig":
        if self.selection:
            self.selection.strata_of(self.batch_size)
        return self

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> "RunConfig":
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise Misfit("micro_batch", f"is {self.micro_batch}, more than batch_size {self.batch_size}; leave it out")
        return self

    @model_validator(mode="after")
    def _stops_by_what_is_seen(self) -> "RunConfig":
        if self.early_stopping is None:
            return self
        if not (self.eval.every and self.data.val):
            raise Misfit("early_stopping", "is decided by evaluations: give `eval.every` and `data.val`")
        if self.early_stopping.task not in self.eval.tasks:
            known = ", ".join(self.eval.tasks)
            raise Misfit(
                "early_stopping.task", f"`{self.early_stopping.task}` is not evaluated; of `eval.tasks`: {known}"
            )
        return self

    @model_validator(mode="after")
    def _updates_stay_whole(self) -> "RunConfig":
        if self.zero == 3 and any(tower.lora for tower in self.model.towers.values()):
            raise Misfit("zero", "3 does not go with `lora`, whose updates are small: take 2 or less")
        return self

    @model_validator(mode="after")
    def _stages_hold(self) -> "RunConfig":
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise Misfit("stages", "has two of one name; a checkpoint could not tell them apart")
        total = sum(stage.steps for stage in self.stages)
        if any(stage.steps < 1 for stage in self.stages):
            if abs(total - 1) > 1e-9:
                raise Misfit("stages", f"are shares of the run that add up to {total:g}, not to 1")
        elif self.stages and total != self.steps:
            raise Misfit("steps", f"is {self.steps}, but the stages add up to {total}; leave `steps` out")
        for index in range(len(self.stages)):
            self.stage(index)
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run is headed by its name, and its length is said once."""
        written = {"name": self.name} | super()._as_written(handler)
        return written if self.epochs is None else {key: value for key, value in written.items() if key != "steps"}


def check_steps(config: RunConfig) -> None:
    """Refuses a run that does nothing. A single stage may well have no steps, where stages are shares."""
    if config.steps == 0 and config.epochs is None and config.init is None:
        raise UserError("`steps` is 0, which evaluates `init` without training; give `init`, or train 1 step or more")


def _sum_of_steps(stages: Any) -> int:
    """What the stages add up to; nothing when they are malformed, which their own check then says."""
    if not isinstance(stages, list | tuple) or not all(isinstance(stage, dict) for stage in stages):
        return 0
    steps = [stage.get("steps") for stage in stages]
    return sum(count for count in steps if isinstance(count, int))
