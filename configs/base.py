"""Strict typed configs: unknown keys are refused, with the name that was probably meant."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """The base of every config. A field's `description` is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
