"""The config of the data of a run. Imports no torch. `source_config.py` has that of one source."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.composition import check_composition
from tercet.data_pipelines.shorthand import named, split_in_two
from tercet.data_pipelines.source_config import SourceConfig, SplitConfig, TableConfig
from tercet.data_pipelines.transforms.config import AugmentConfig, ViewsConfig

__all__ = ["DataConfig", "SourceConfig", "SplitConfig", "TableConfig", "WeightsConfig"]


class WeightsConfig(Config):
    """A rule that sets the weight of every source. A bare name in YAML sets `by`."""

    by: Literal["uniform", "size"] = Field("size", description="equal weights, or weights by the number of samples")
    temperature: float = Field(
        1.0,
        gt=0,
        description="of `size`: a source with n samples has the weight n^(1 / temperature); the higher, the closer to "
        "equal weights",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_bare_name(cls, raw: Any) -> Any:
        return {"by": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _has_a_temperature(self) -> "WeightsConfig":
        if self.by == "uniform" and self.temperature != type(self).model_fields["temperature"].default:
            raise Misfit("temperature", "applies to `by: size` only; leave it out")
        return self

    @property
    def exponent(self) -> float:
        """The power of the number of samples."""
        return 1 / self.temperature if self.by == "size" else 0.0


class DataConfig(Config):
    """Training data and validation data.

    A single `source` with its options gives both: a share `held_out` of its groups, chosen by hash, is for validation.
    """

    short = ("held_out", *SourceConfig.model_fields)
    train: dict[str, SourceConfig] = Field(
        description="training sources by name; a single one needs no name: a folder, a pattern, a table, …"
    )
    val: dict[str, SplitConfig] = Field(
        {}, description="validation sources by the name of the split; a single source without a name is called val"
    )
    mix: Literal["within_batches", "between_batches"] = Field(
        "within_batches", description="each batch mixes all sources by weight, or comes from a single source"
    )
    weights: WeightsConfig | None = Field(
        None,
        description="sets the `weight` of every source: uniform, size, or between the two, as {temperature: 2}; "
        "default: those that the sources have",
    )
    mode: Literal["index", "stream"] = Field(
        "index",
        description="index: exact order, resumes at the sample; stream: one source read without an index, hashed ids, "
        "resumes at the shard",
    )
    missing: Literal["fail", "skip"] = Field(
        "fail", description="a damaged or unreachable shard ends the run, or its samples count as bad ones"
    )
    cache_gb: float = Field(100, gt=0, description="gigabytes of remote files that each machine keeps at most")
    streams: int = Field(
        256, gt=0, description="number of canonical streams that the samples are divided into; it decides the order"
    )
    window: int = Field(4096, gt=0, description="how many samples of a stream are shuffled together")
    workers: int = Field(
        2, ge=0, description="processes or threads that decode ahead on each rank; 0: decode in the training loop"
    )
    worker: Literal["process", "thread"] = Field(
        "process", description="processes use all cores; threads start at once and share memory"
    )
    values: dict[str, str] = Field(
        {},
        description="numbers of each sample that objectives use, by name: {relevance: json.score} reads the key "
        "`score` of `.json`; a sample without it has 1",
    )
    max_bad: float = Field(0.01, ge=0, le=1, description="the run stops if a larger share of the samples is bad")
    crop: tuple[float, float] | None = Field(
        (0.9, 1.0),
        description="range of the area of a random training crop, as a share of the largest crop that fits; null: the "
        "centre, as at evaluation",
    )
    augment: AugmentConfig = AugmentConfig()
    views: ViewsConfig | None = Field(
        None,
        description="a fixed number of augmented views of each sample, instead of a new one in each epoch: {count: "
        "10}; the memory `stored_teacher` reads vectors of them",
    )
    exact_images: bool = Field(
        False,
        description="resize pictures exactly as Pillow's antialiased bicubic does, in two to four times the time",
    )
    keep: bool = Field(False, description="decode each sample once and keep it in memory; needs `crop: null`")

    @model_validator(mode="before")
    @classmethod
    def _split_in_two(cls, raw: Any) -> Any:
        return split_in_two(raw, SourceConfig.model_fields, SplitConfig.model_fields)

    @field_validator("train", mode="before")
    @classmethod
    def _source(cls, raw: Any) -> Any:
        return named(raw, "train", SourceConfig.model_fields)

    @field_validator("val", mode="before")
    @classmethod
    def _split(cls, raw: Any) -> Any:
        return named(raw or {}, "val", SplitConfig.model_fields)

    @field_validator("crop")
    @classmethod
    def _share(cls, crop: tuple[float, float] | None) -> tuple[float, float] | None:
        if crop and not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(
                f"[{crop[0]:g}, {crop[1]:g}] is not a range in (0, 1]; give two numbers, smallest first, as [0.9, 1.0]"
            )
        return crop

    @model_validator(mode="after")
    def _augments_by_process(self) -> "DataConfig":
        threads = self.workers > 0 and (self.worker == "thread" or self.mode == "stream")
        if self.augment.image.draws_globally and threads:
            fix = "`workers: 0`, because threads decode a stream" if self.mode == "stream" else "`worker: process`"
            raise Misfit(
                "augment.image.randaugment", f"uses the global random state, which threads would disturb; set {fix}"
            )
        return self

    @model_validator(mode="after")
    def _views_can_be_repeated(self) -> "DataConfig":
        if self.views is None:
            return self
        if self.mode == "stream":
            raise Misfit("views", "needs samples with ids: set `mode: index`, or leave `views` out")
        if self.augment.audio.mix:
            raise Misfit("augment.audio.mix", "mixes other samples into a view, which cannot be stored; set it to 0")
        return self

    @model_validator(mode="after")
    def _values_have_places(self) -> "DataConfig":
        for name, place in self.values.items():
            if not place.startswith("json.") or not all(place.split(".")):
                raise Misfit(
                    f"values.{name}", f"is `{place}`, which holds no number; write json.KEY for a key of .json"
                )
        return self

    @model_validator(mode="after")
    def _streams_whole_shards(self) -> "DataConfig":
        for name, source in self.train.items():
            if self.mode == "stream" and source.part and source.split_by != "shard":
                raise Misfit(f"train.{name}.part", "cannot be streamed sample by sample; set `split_by: shard`")
        return self

    @model_validator(mode="after")
    def _weighs_sources_once(self) -> "DataConfig":
        for name, source in self.train.items():
            if self.weights is not None and source.weight != type(source).model_fields["weight"].default:
                raise Misfit(
                    f"train.{name}.weight", "is set, but `data.weights` sets all of them; leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def _lists_what_has_ids(self) -> "DataConfig":
        for name, source in self.train.items():
            if source.list and self.mode == "stream":
                raise Misfit(f"train.{name}.list", "needs samples with ids: set `mode: index`, or leave the list out")
        return self

    @model_validator(mode="after")
    def _composes_whole_batches(self) -> "DataConfig":
        mixed = self.mix == "within_batches" and len(self.train) > 1
        ends = not all(source.repeat for source in self.train.values())
        for name, source in self.train.items():
            check_composition(
                f"train.{name}", source.neighbors, source.clusters, stream=self.mode == "stream", mixed=mixed, ends=ends
            )
        return self

    @model_validator(mode="after")
    def _pairs_what_has_ids(self) -> "DataConfig":
        for name, source in self.train.items():
            if source.sound_pairs and self.mode == "stream":
                raise Misfit(
                    f"train.{name}.sound_pairs", "draws partners by id: set `mode: index`, or leave `sound_pairs` out"
                )
        return self

    @model_validator(mode="after")
    def _keeps_what_stays_the_same(self) -> "DataConfig":
        if self.keep and self.mode == "stream":
            raise Misfit(
                "keep", "needs `mode: index`, because a stream does not repeat samples; set that, or leave `keep` out"
            )
        if self.keep and self.crop is not None:
            raise Misfit("keep", "cannot keep random crops; set `crop: null`, or leave `keep` out")
        if self.keep and self.worker == "process" and self.workers:
            raise Misfit("keep", "needs workers that share memory; set `worker: thread`, or leave `keep` out")
        return self
