"""What a recipe says of augmentation. Imports no torch."""

from pydantic import Field, field_validator

from tercet.configs.base import Config


class AudioAugment(Config):
    """Sounds while training. Nothing given, nothing is changed but the crop."""

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
    def masks(self) -> int:
        return self.frequency_masks + self.time_masks

    @field_validator("gain", "noise", "mix_snr")
    @classmethod
    def _ascending(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends and ends[0] > ends[1]:
            raise ValueError(f"[{ends[0]:g}, {ends[1]:g}] is no range: take the lower number first")
        return ends
