"""The config of one source of samples: what it is made of, and for training, how it is drawn from. Imports no torch."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.captions.templates import SLOT
from tercet.data_pipelines.composition import ClustersConfig, NeighborsConfig
from tercet.data_pipelines.further_files import NAME
from tercet.data_pipelines.manifests.reading import CLASS_TEMPLATES, GROUP, Reading
from tercet.data_pipelines.manifests.roles import Roles
from tercet.data_pipelines.sound_pairs.config import SoundPairsConfig
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

    @field_validator("text", "templates", "keyword_templates", mode="before", check_fields=False)
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
        "keywords.KEY makes a caption of a list of keywords; default: `.txt`, or else the key `text`, `caption` or "
        "`captions` of `.json`",
    )
    keyword_templates: tuple[str, ...] = Field(
        (),
        description="makes one caption of all keywords of a sample, for a place `keywords.KEY` of `captions`, whose "
        "value in `.json` is a list of keywords; default: `The sounds of {}.`",
    )
    min_words: int = Field(
        0,
        ge=0,
        description="of `captions` with several places: a drawn caption with fewer words is replaced by one of the "
        "first place, such as the original of a rewrite that failed (LaCLIP: 2)",
    )
    prefix: str = Field("", description="put before each caption, such as `query: ` for towers that expect it (E5)")
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

    @field_validator("templates", "keyword_templates")
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
        if self.min_words and len(self.captions) < 2:
            raise Misfit(
                "min_words", "needs a second place of captions, such as captions: {txt: 1, json.rewrites: 4}; or leave "
                "it out"
            )  # fmt: skip
        if self.prefix and self.sound_pairs:
            raise Misfit("prefix", "does not work with `sound_pairs`, which joins captions; leave one of them out")
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
