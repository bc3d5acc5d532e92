"""Objectives whose loss does not depend on the temperature of the term."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from tercet.models.losses.objective import Objective


@dataclass(frozen=True)
class Unscaled(Objective):
    """Options of objectives without a temperature. They give no probabilities either."""

    scale: Annotated[float, Field(description="not used")] = 1.0
    bounds: Annotated[tuple[float, float], Field(description="not used")] = (1.0, 1.0)

    probabilities: ClassVar[bool] = False
