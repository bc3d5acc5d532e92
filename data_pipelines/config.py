"""What a recipe says of the data. Imports no torch."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.transforms.config import AugmentConfig
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES


class SplitConfig(Config):
    """One set of shards, and how its samples are to be read."""

    source: str | tuple[str, ...] = Field(
        description="WebDataset shards: a folder, a pattern as `shards/{000..099}.tar`, a URL, or a list of them"
    )
    fields: tuple[str, ...] = Field((), description="modalities taken from it; nothing: all that the model takes in")
    captions: dict[str, float] = Field(
        {},
        description="where captions stand, and how often each place is asked: {txt: 0.5, json.rewrites: 0.5}; "
        "nothing: `.txt`, or else the keys `text`, `caption` or `captions` of `.json`",
    )
    group: str = Field(
        "json.group",
        description="what samples of the same thing share: a key of `.json` as json.group, or equal content of "
        "`image`, `audio` or `text`",
    )

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
            from tercet.data_pipelines.decode.captions import CaptionReader
            from tercet.data_pipelines.decode.groups import GroupReader

            GroupReader(self.group, CaptionReader(self.captions))
        return self


class SourceConfig(SplitConfig):
    """Shards to learn from, and their place among the others."""

    weight: float = Field(1.0, gt=0, description="share of the samples that it gives, relative to the other sources")
    repeat: bool = Field(True, description="start again when all its samples were seen; else the others fill its place")


class DataConfig(Config):
    """Shards to learn from and shards to be examined on."""

    train: dict[str, SourceConfig] = Field(
        description="sources by name; for a single one its shards alone: a folder, a pattern, a URL or a list"
    )
    val: dict[str, SplitConfig] = Field(
        {}, description="held-out sources by the name of the split; shards without a name are called val"
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

    @field_validator("train", mode="before")
    @classmethod
    def _source(cls, raw: Any) -> Any:
        return _named(raw, "train")

    @field_validator("val", mode="before")
    @classmethod
    def _split(cls, raw: Any) -> Any:
        return _named(raw or {}, "val")

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
    def _keeps_what_stays_the_same(self) -> "DataConfig":
        if self.keep and self.mode == "stream":
            raise Misfit("keep", "needs samples that come by again; set `mode: index`, or leave it out")
        if self.keep and self.crop is not None:
            raise Misfit("keep", "needs pictures that are not cropped at random; set `crop: null`, or leave it out")
        if self.keep and self.worker == "process" and self.workers:
            raise Misfit("keep", "needs one memory for all workers; set `worker: thread`, or leave it out")
        return self


def _named(raw: Any, name: str) -> Any:
    """Shards alone, or a single source written out, get a name; shards under a name become a source."""
    if isinstance(raw, str | list | tuple) or (isinstance(raw, dict) and "source" in raw):
        raw = {name: raw}
    if not isinstance(raw, dict):
        raise ValueError(f"{raw!r} names no shards; give a folder, a pattern, a list of them, or sources by name")
    return {key: {"source": one} if isinstance(one, str | list | tuple) else one for key, one in raw.items()}
