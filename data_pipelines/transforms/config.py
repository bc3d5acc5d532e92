"""The config of augmentation. Imports no torch."""

import re

from pydantic import Field, field_validator

from tercet.configs.base import Component, Config
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES

NUMBER = r"\d+(\.\d+)?"
RANDAUGMENT = re.compile(rf"rand(-(m\d+|n[1-9]|p(0(\.\d+)?|1)|mstd{NUMBER}|mmax\d+|inc[01]|t(weights|3a|3aw)))*")


class ImageAugment(Config):
    """Changes training pictures after the crop, in this order."""

    flip: float = Field(
        0.0, ge=0, le=1, description="share that is mirrored; mind captions that mention left and right"
    )
    randaugment: str | None = Field(
        None, description="timm's RandAugment, as rand-m9-n2-mstd0.5; needs `worker: process`"
    )
    jitter: float = Field(0.0, ge=0, le=1, description="share whose colours are shifted")
    jitter_strength: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.1),
        description="largest shift of brightness, contrast, saturation (up to 1) and hue (up to 0.5)",
    )
    grey: float = Field(0.0, ge=0, le=1, description="share that loses its colours")
    blur: float = Field(0.0, ge=0, le=1, description="share that is blurred")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="range of the blur's standard deviation in pixels")
    solarise: float = Field(0.0, ge=0, le=1, description="share whose brighter half is inverted")
    full_alpha: float = Field(
        0.0, ge=0, le=1, description="with model.image.alpha: share whose mask is replaced by one that is 1 everywhere"
    )

    @property
    def changes(self) -> bool:
        """Whether it changes any picture."""
        return self.randaugment is not None or any((self.flip, self.jitter, self.grey, self.blur, self.solarise))

    @property
    def draws_globally(self) -> bool:
        """Whether it uses the global random state, which threads would disturb."""
        return self.randaugment is not None

    def shrunk(self, factor: float) -> "ImageAugment":
        """The same changes of pictures whose sides are `factor` times as long."""
        low, high = self.blur_sigma
        return self.model_copy(update={"blur_sigma": (factor * low, factor * high)})

    @field_validator("randaugment")
    @classmethod
    def _understood(cls, policy: str | None) -> str | None:
        if policy is not None and not RANDAUGMENT.fullmatch(policy):
            raise ValueError(
                f"{policy} is not a RandAugment policy; write rand and any of -m9 -n2 -p0.5 -mstd0.5 -mmax10 -inc1 -t3a"
            )
        return policy

    @field_validator("jitter_strength")
    @classmethod
    def _in_bounds(cls, strengths: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        *shades, hue = strengths
        if not (all(0 <= strength <= 1 for strength in shades) and 0 <= hue <= 0.5):
            raise ValueError(
                "the first three strengths are from 0 to 1, that of the hue from 0 to 0.5: [0.4, 0.4, 0.4, 0.1]"
            )
        return strengths

    @field_validator("blur_sigma")
    @classmethod
    def _range(cls, sigma: tuple[float, float]) -> tuple[float, float]:
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(
                f"[{sigma[0]:g}, {sigma[1]:g}] is not a range of pixels; give two numbers such as [0.1, 2.0]"
            )
        return sigma


class HideConfig(Config):
    """Squares of a picture that are hidden, for masked prediction."""

    share: float = Field(0.5, gt=0, lt=1, description="share of the squares that are grey")
    side: int = Field(16, gt=0, description="side of a square in pixels; take that of the tower's patches")


class AudioAugment(Config):
    """Changes training sounds after the crop. By default, nothing."""

    gain: tuple[float, float] | None = Field(None, description="range in decibels of a change of loudness, as [-6, 6]")
    noise: tuple[float, float] | None = Field(
        None, description="range in decibels by which a clip is louder than the white noise added to it, as [10, 50]"
    )
    mix: float = Field(0.0, ge=0, le=1, description="share of the clips that are mixed with another of their source")
    mix_snr: tuple[float, float] = Field(
        (5.0, 20.0), description="range in decibels by which a clip is louder than the one mixed into it"
    )
    frequency_masks: int = Field(0, ge=0, description="SpecAugment: bands of frequency that are masked")
    frequency_share: float = Field(0.25, gt=0, le=1, description="share of the frequencies that each hides at most")
    time_masks: int = Field(0, ge=0, description="SpecAugment: stretches of time that are masked")
    time_share: float = Field(0.2, gt=0, le=1, description="share of the clip that each hides at most")

    @property
    def changes(self) -> bool:
        """Whether it changes any sound."""
        return self.gain is not None or self.noise is not None or self.mix > 0 or self.masks > 0

    @property
    def masks(self) -> int:
        return self.frequency_masks + self.time_masks

    @field_validator("gain", "noise", "mix_snr")
    @classmethod
    def _ascending(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends and ends[0] > ends[1]:
            raise ValueError(f"[{ends[0]:g}, {ends[1]:g}] is not a range; give the lower number first")
        return ends


class ViewsConfig(Config):
    """A fixed number of augmented views of each sample, so that vectors of all of them can be stored."""

    count: int = Field(gt=0, description="how many views each sample has; epoch e trains on view e modulo `count`")
    seed: int = Field(0, ge=0, lt=2**63, description="what the views are drawn from, together with the sample's id")


class TransformConfig(Component):
    """A transform by name."""


class AugmentConfig(Config):
    """Changes to training samples after the crop."""

    image: ImageAugment = ImageAugment()
    audio: AudioAugment = AudioAugment()
    further: dict[str, tuple[TransformConfig, ...]] = Field(
        {},
        description="registered transforms by modality, applied in this order after the ones above: {image: [sepia]}",
    )

    @field_validator("further")
    @classmethod
    def _of_media(cls, further: dict[str, tuple[TransformConfig, ...]]) -> dict[str, tuple[TransformConfig, ...]]:
        known = MODALITIES - {"text"}
        for modality in further:
            if modality not in known:
                raise ValueError(f"unknown modality `{modality}`; {did_you_mean(modality, known)}")
        return further
