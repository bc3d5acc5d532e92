"""The options of `tercet data voices`. Imports no torch."""

from typing import Any

from pydantic import Field, field_validator

from tercet.configs.base import Config


class VoicesConfig(Config):
    """Captions of how voices sound, from their features and labels."""

    labels: tuple[str, ...] = Field(
        (),
        description="keys of `.json` that captions name, such as emotion,gender; a caption is then "
        "`speaker is loud and emotion is happy and gender is female`",
    )
    count: int = Field(5, gt=0, le=64, description="captions of each sample, with other features each")
    seed: int = Field(0, ge=0, lt=2**63, description="of the draws of features")

    @field_validator("labels", mode="before")
    @classmethod
    def _listed(cls, raw: Any) -> Any:
        return [label for label in raw.split(",") if label] if isinstance(raw, str) else raw
