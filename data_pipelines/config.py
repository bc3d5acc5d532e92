"""The config of the data of a run. Imports no torch."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.captions.templates import SLOT
from tercet.data_pipelines.composition import ClustersConfig, NeighborsConfig, check_composition
from tercet.data_pipelines.further_files import NAME
from tercet.data_pipelines.manifests.reading import CLASS_TEMPLATES, GROUP, Reading
from tercet.data_pipelines.manifests.roles import Roles
from tercet.data_pipelines.shorthand import named, split_in_two
from tercet.data_pipelines.sound_pairs.config import SoundPairsConfig
from tercet.data_pipelines.transforms.config import AugmentConfig
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES


class TableConfig(Config):
    """Where samples come from and, for a table, which columns hold what."""

    source: str | tuple[str, ...] = Field(
        description="tar shards (a folder, a pattern as `shards/{000..099}.tar`), a table (CSV, TSV, JSON, JSONL, "
        "Parquet, Arrow), a folder or pattern of files, hf:FOLDER as `datasets` saves it, a URL of these, or a list of "
        "one kind"
    )
    image: str | None = Field(None, description="tables: the column with pictures or their paths; default: guessed")
    audio: str | None = Field(None, description="tables: the column with sounds or their paths; default: guessed")
    text: tuple[str, ...] = Field((), description="tables: one or several columns of captions; default: guessed")
    key: str | None = Field(None, description="tables: the column of unique names; default: guessed, or row numbers")
    files: dict[str, str] = Field(
        {},
        description="tables: columns of further pictures or sounds, each one or a list, by a name of your choice: "
        "{negative: wrong_image} fills fields from file.negative",
    )
    group: str = Field(
        GROUP,
        description="samples with the same value are never negatives of each other: a key of `.json`, as json.group, "
        "which captions from `templates` set to the name in the template; or image, audio or text for equal content",
    )

    @field_validator("text", "templates", mode="before", check_fields=False)
    @classmethod
    def _one_or_more(cls, raw: Any) -> Any:
        return (raw,) if isinstance(raw, str) else raw

    @field_validator("files")
    @classmethod
    def _valid_names(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            if not NAME.fullmatch(name):
                raise ValueError(f"`{name}` is not a valid name; use lower-case letters, digits and the signs _ -")
        return files

    @property
    def roles(self) -> Roles:
        return Roles(self.image, self.audio, self.text, self.key, files=tuple(self.files.items()))


class SplitConfig(TableConfig):
    """One source of samples, and how to read it."""

    templates: tuple[str, ...] = Field(
        (),
        description="makes captions from names, as `a photo of a {}.`: the names are in the column `text`, or are the "
        "names of class folders; default: that template for folders, `This is a sound of {}.` for sounds, and none "
        "for tables",
    )
    part: tuple[float, float] | None = Field(
        None, description="only the samples whose group's hash lies in this range of [0, 1]; see `split_by`"
    )
    split_by: Literal["group", "file", "shard"] | None = Field(
        None,
        description="what `part` keeps on one side: samples of a group, of a picture or sound, or of a shard; default: "
        "group, but shard for remote shards and for 20 or more shards with over 100,000 samples. Classes that fill "
        "`templates` are not groups here unless `group` is text",
    )
    fields: tuple[str, ...] = Field(
        (), description="modalities read from this source; default: all that the model uses"
    )
    captions: dict[str, float] = Field(
        {},
        description="where captions are, with the share of draws from each place: {txt: 0.5, json.rewrites: 0.5}; "
        "default: `.txt`, or else the key `text`, `caption` or `captions` of `.json`",
    )
    sidecar: str | None = Field(
        None,
        description="a JSONL file, or a folder of them, with more keys of `.json` for samples by their `key`, such as "
        "what `tercet data rewrite` writes",
    )
    sound_pairs: SoundPairsConfig | None = Field(
        None,
        description="makes samples of two sounds of the source, with a caption that says in which order they come: "
        "{share: 0.5, joins: {then: 1, while: 1}}; {} for the defaults",
    )

    @field_validator("templates")
    @classmethod
    def _slotted(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if SLOT not in template:
                raise ValueError(f"`{template}` has no slot {SLOT} for a name; write it as {CLASS_TEMPLATES['image']}")
        return templates

    @field_validator("part")
    @classmethod
    def _range(cls, part: tuple[float, float] | None) -> tuple[float, float] | None:
        if part and not 0 <= part[0] < part[1] <= 1:
            raise ValueError(
                f"[{part[0]:g}, {part[1]:g}] is not a part of [0, 1]; give two numbers, smallest first, as [0.1, 1]"
            )
        return part

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        for field in fields:
            if field not in MODALITIES:
                raise ValueError(f"unknown modality `{field}`; {did_you_mean(field, MODALITIES)}")
        return fields

    @model_validator(mode="after")
    def _readable(self) -> "SplitConfig":
        """Refuses places of captions and groups that their readers do not know."""
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
    """A source of training samples, and its weight among the others."""

    weight: float = Field(1.0, gt=0, description="its share of the training samples, relative to the other sources")
    repeat: bool = Field(
        True, description="start again after the last sample; otherwise the other sources take its place"
    )
    list: str | None = Field(
        None,
        description="CSV with a column `id` or `key` and optionally `count`, or a Parquet file or a folder of them, "
        "with `keep` or `count`: trains on these samples only, each that often in an epoch (default: once)",
    )
    neighbors: NeighborsConfig | None = Field(
        None, description="hard negatives: samples bring their neighbours in a graph into the batch"
    )
    clusters: ClustersConfig | None = Field(
        None, description="batches that come from one cluster of samples each, or from all equally often"
    )

    @property
    def composed(self) -> bool:
        """Whether the place in a batch decides which sample comes."""
        return self.neighbors is not None or self.clusters is not None


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
