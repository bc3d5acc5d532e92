"""What a recipe says of the data. Imports no torch."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.captions.templates import SLOT
from tercet.data_pipelines.manifests.reading import CLASS_TEMPLATES, GROUP, Reading
from tercet.data_pipelines.manifests.roles import Roles
from tercet.data_pipelines.shorthand import named, split_in_two
from tercet.data_pipelines.transforms.config import AugmentConfig
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES


class TableConfig(Config):
    """Where samples come from and, where a table lists them, what its columns are."""

    source: str | tuple[str, ...] = Field(
        description="tar shards (a folder, a pattern as `shards/{000..099}.tar`), a table (CSV, TSV, JSONL, Parquet, "
        "Arrow), a folder or pattern of files, hf:FOLDER as `datasets` saves it, a URL of these, or a list of one kind"
    )
    image: str | None = Field(None, description="of a table: the column that names or holds pictures; nothing: guessed")
    audio: str | None = Field(None, description="the column that names or holds sounds; nothing: guessed")
    text: tuple[str, ...] = Field((), description="the column of captions, or several; nothing: guessed")
    key: str | None = Field(None, description="the column of unique names; nothing: guessed, or else rows are numbered")
    group: str = Field(
        GROUP,
        description="what samples of the same thing share: a key of `.json` as json.group, which captions from "
        "`templates` fill with the name that they are of, or equal content of `image`, `audio` or `text`",
    )

    @field_validator("text", "templates", mode="before", check_fields=False)
    @classmethod
    def _one_or_more(cls, raw: Any) -> Any:
        return (raw,) if isinstance(raw, str) else raw

    @property
    def roles(self) -> Roles:
        return Roles(self.image, self.audio, self.text, self.key)


class SplitConfig(TableConfig):
    """One source of samples, and how they are to be read."""

    templates: tuple[str, ...] = Field(
        (),
        description="captions as `a photo of a {}.`, filled with what `text` names or the class that a folder is; "
        "nothing: that one for folders, of sounds `This is a sound of {}.`, and captions as they are for tables",
    )
    part: tuple[float, float] | None = Field(
        None, description="only the samples whose group's hash lies in this range of [0, 1]; see `split_by`"
    )
    split_by: Literal["group", "file", "shard"] | None = Field(
        None,
        description="what `part` keeps together: the samples of a group, of a picture or sound alone, or of a shard; "
        "nothing: of a group, but whole shards where they are remote, or are 20 or more with over 100,000 samples. "
        "Classes that captions are made of are no groups here, unless `group` is text",
    )
    fields: tuple[str, ...] = Field((), description="modalities taken from it; nothing: all that the model takes in")
    captions: dict[str, float] = Field(
        {},
        description="where captions stand, and how often each place is asked: {txt: 0.5, json.rewrites: 0.5}; "
        "nothing: `.txt`, or else the keys `text`, `caption` or `captions` of `.json`",
    )

    @field_validator("templates")
    @classmethod
    def _slotted(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if SLOT not in template:
                raise ValueError(f"`{template}` has no place for a name; write one as {CLASS_TEMPLATES['image']}")
        return templates

    @field_validator("part")
    @classmethod
    def _range(cls, part: tuple[float, float] | None) -> tuple[float, float] | None:
        if part and not 0 <= part[0] < part[1] <= 1:
            raise ValueError(f"[{part[0]:g}, {part[1]:g}] is no part of the whole; take two numbers as [0.1, 1]")
        return part

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        for field in fields:
            if field not in MODALITIES:
                raise ValueError(f"`{field}` is no modality; {did_you_mean(field, MODALITIES)}")
        return fields

    @model_validator(mode="after")
    def _readable(self) -> "SplitConfig":
        """Places are understood by whoever reads them, and only asked where a recipe names some."""
        if self.captions or self.group != type(self).model_fields["group"].default:
            from tercet.data_pipelines.captions.groups import GroupReader
            from tercet.data_pipelines.captions.reader import CaptionReader

            GroupReader(self.group, CaptionReader(self.captions))
        return self

    @property
    def reading(self) -> Reading:
        """How the rows of a table or the files of a folder become samples."""
        return Reading(self.roles, self.templates, self.part, self.split_by, self.group, self.captions)


class SourceConfig(SplitConfig):
    """Samples to learn from, and their place among those of other sources."""

    weight: float = Field(1.0, gt=0, description="share of the samples that it gives, relative to the other sources")
    repeat: bool = Field(True, description="start again when all its samples were seen; else the others fill its place")
    list: str | None = Field(
        None,
        description="CSV file with a column `id` or `key`, and if wanted `count`: train on these samples only, each so "
        "often in an epoch (default: once)",
    )


class DataConfig(Config):
    """Samples to learn from and samples to be examined on.

    A source alone, with what else is known of it and `held_out`, stands for both: it is split by the hash of the group.
    """

    short = ("held_out", *SourceConfig.model_fields)
    train: dict[str, SourceConfig] = Field(
        description="sources by name; a single one may be written as its source alone: a folder, a pattern, a table, …"
    )
    val: dict[str, SplitConfig] = Field(
        {}, description="held-out sources by the name of the split; a source without a name is called val"
    )
    mix: Literal["within_batches", "between_batches"] = Field(
        "within_batches", description="each batch holds every source in its share, or each batch is of a single source"
    )
    mode: Literal["index", "stream"] = Field(
        "index",
        description="read by index, exact and resumed to the sample, or stream what is not to be indexed: "
        "one source, hashed ids, resumed by shard",
    )
    missing: Literal["fail", "skip"] = Field(
        "fail", description="what a shard means that is damaged or cannot be fetched: the end, or bad samples"
    )
    cache_gb: float = Field(100, gt=0, description="copies of remote shards that each machine keeps at most")
    streams: int = Field(256, gt=0, description="canonical streams that the samples are dealt into; decides the order")
    window: int = Field(4096, gt=0, description="samples of a stream that are shuffled among each other")
    workers: int = Field(2, ge=0, description="processes or threads that decode ahead on each rank; 0: in the loop")
    worker: Literal["process", "thread"] = Field(
        "process", description="processes scale with the cores; threads start at once and share one memory"
    )
    max_bad: float = Field(0.01, ge=0, le=1, description="share of bad samples above which the run stops")
    crop: tuple[float, float] | None = Field(
        (0.9, 1.0),
        description="range of the share that a random training crop keeps of the largest one that fits; "
        "nothing: the centre, as at evaluation",
    )
    augment: AugmentConfig = AugmentConfig()
    exact_images: bool = Field(
        False, description="pictures exactly as Pillow's antialiased bicubic makes them, at two to four times the cost"
    )
    keep: bool = Field(
        False, description="decode each sample once and keep it: for data that fit into memory, and `crop` of nothing"
    )

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
            raise ValueError(f"crop [{crop[0]:g}, {crop[1]:g}] is no range of shares: take two numbers as [0.9, 1.0]")
        return crop

    @model_validator(mode="after")
    def _augments_by_process(self) -> "DataConfig":
        threads = self.workers > 0 and (self.worker == "thread" or self.mode == "stream")
        if self.augment.image.draws_globally and threads:
            mend = "`workers: 0`, for threads decode a stream" if self.mode == "stream" else "`worker: process`"
            raise Misfit("augment.image.randaugment", f"draws where threads disturb it; set {mend}")
        return self

    @model_validator(mode="after")
    def _streams_whole_shards(self) -> "DataConfig":
        for name, source in self.train.items():
            if self.mode == "stream" and source.part and source.split_by != "shard":
                raise Misfit(f"train.{name}.part", "cannot be streamed sample by sample; set `split_by: shard`")
        return self

    @model_validator(mode="after")
    def _lists_what_has_ids(self) -> "DataConfig":
        for name, source in self.train.items():
            if source.list and self.mode == "stream":
                raise Misfit(f"train.{name}.list", "needs samples with ids: set `mode: index`, or leave the list out")
        return self

    @model_validator(mode="after")
    def _keeps_what_stays_the_same(self) -> "DataConfig":
        if self.keep and self.mode == "stream":
            raise Misfit("keep", "needs samples that come by again; set `mode: index`, or leave it out")
        if self.keep and self.crop is not None:
            raise Misfit("keep", "needs pictures that are not cropped at random; set `crop: null`, or leave it out")
        if self.keep and self.worker == "process" and self.workers:
            raise Misfit("keep", "needs one memory for all workers; set `worker: thread`, or leave it out")
        return self
