"""The config of the built-in world. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tercet.configs.base import Config

Split = Literal["train", "val", "combinations"]
SPLITS: tuple[Split, ...] = ("train", "val", "combinations")
Language = Literal["de", "en", "es", "fr"]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]  # strict: `true` is no share


class BuiltinSourceConfig(Config):
    """A place where scenes are recorded: it colours the background of pictures and adds hiss to sounds."""

    name: str
    share: float = Field(gt=0, le=1, description="share of all scenes")
    tint: tuple[int, int, int] = Field((128, 128, 128), description="RGB that the background leans towards")
    noise: float = Field(0.0, ge=0, le=0.1, description="root mean square of the hiss")


class WorldConfig(Config):
    """One generated world. Faults and mistakes are in the training split only: evaluation stays clean.

    `languages` to `masks` add texts to `.json` and files, and change nothing else of a sample.
    """

    seed: int = Field(0, ge=0)
    train: int = Field(10_000, ge=0, description="training samples")
    val: int = Field(1_000, ge=0, description="held-out scenes of pairings that training shows")
    combinations: int = Field(500, ge=0, description="scenes of shape–colour pairings that training never shows")
    objects: tuple[float, float, float] = Field((0.7, 0.2, 0.1), description="shares of one, two and three objects")
    sources: tuple[BuiltinSourceConfig, ...] = Field(
        (), description="places with their own background; the rest has none"
    )
    size: int = Field(64, ge=16, le=1024, description="side of the pictures in pixels")
    image_format: Literal["png", "jpg"] = "jpg"
    rate: int = Field(16_000, ge=8_000, le=48_000, description="samples of sound per second")
    seconds: float = Field(1.5, ge=0.5, le=30, description="length of the sounds")
    generic: float = Field(0.15, ge=0, le=1, description="share whose captions leave attributes out")
    mismatched: float = Field(0.0, ge=0, le=1, description="share whose captions describe another scene")
    duplicates: float = Field(0.0, ge=0, lt=1, description="share that shows the objects of an earlier scene again")
    long_tail: float = Field(0.0, ge=0, le=4, description="Zipf exponent over shapes and over colours; 0 is uniform")
    missing: dict[Literal["image", "audio", "text"], float] = Field(
        {}, description="share of rows without this modality; a row lacks one at most"
    )
    captions: int | None = Field(None, ge=1, le=4, description="captions of a training sample (default: 4)")
    partly_wrong: Share | None = Field(
        None, description="share of the other captions with some wrong facts; `relevance` is the share of true ones"
    )
    languages: dict[Language, Share] = Field(
        {}, description="writes `captions.LANGUAGE`, each with its share of wrong words: {en: 0, de: 0.3}"
    )
    rewrites: int | None = Field(None, ge=1, le=64, description="writes so many other wordings to `rewrites`")
    synthetic: Share | None = Field(
        None, description="writes `synthetic`, the short caption of a captioner; this share of them is wrong"
    )
    long: Share | None = Field(
        None,
        description="writes `long`, a caption of several sentences, and `sentences`; this share of them is wrong",
    )
    grades: int | None = Field(
        None, ge=2, le=5, description="writes `graded`, so many captions, from a right one to one without a true fact"
    )
    negative_media: tuple[Literal["image", "audio"], ...] = Field(
        (),
        description="writes a picture or a sound of each wrong caption, `negative.0.jpg`, `negative.0.flac` and so on, "
        "and these captions as `contrasts`: [image, audio]",
    )
    masks: bool | None = Field(
        None,
        description="writes a mask of one object, `alpha.png`, and to `masked` its description: what Alpha-CLIP needs",
    )
    samples_per_shard: int = Field(500, gt=0)
    workers: int = Field(2, ge=1, description="processes that draw; the shards do not depend on it")

    @model_validator(mode="after")
    def _shares_fit(self) -> "WorldConfig":
        if abs(sum(self.objects) - 1) > 1e-6 or min(self.objects) < 0:
            raise ValueError(f"objects {self.objects} must be shares that sum to 1")
        if min(self.missing.values(), default=0) < 0 or sum(self.missing.values()) > 1:
            raise ValueError(f"missing {self.missing} must be shares that sum to 1 at most: a row lacks one at most")
        if sum(source.share for source in self.sources) > 1 + 1e-6:
            raise ValueError("the shares of sources sum to more than 1")
        return self

    def samples(self, split: Split) -> int:
        return {"train": self.train, "val": self.val, "combinations": self.combinations}[split]

    def shards(self, split: Split) -> int:
        return -(-self.samples(split) // self.samples_per_shard)
