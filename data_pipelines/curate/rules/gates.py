"""ALIP's gates as a rule (Yang et al. 2023): samples whose captions agree with the picture and with each other."""

from pydantic import Field

from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.curate.rules.rule import Rule, curation_rule, decided


@curation_rule("alip")
class Alip(Rule):
    """Keeps samples by three cosines: of the picture and the raw caption, of it and a written one, of both captions.

    H is the mean of a cosine s over the samples that enter. The sample gate is min(1, exp(gamma (s - H))) of both
    captions. Where it is below 1, the pair gate of a caption is exp(gamma (s - H)) of the picture and the caption, else
    1. A sample stays if its sample gate times its larger pair gate is at least `least`. Differs: ALIP's H is a moving
    average over the steps of a training, and the gates are weights of its losses.
    """

    raw: str = Field(description="column of the cosine of the picture and the raw caption")
    written: str = Field(description="column of the cosine of the picture and the written caption")
    captions: str = Field(description="column of the cosine of both captions")
    gamma: float = Field(2.0, gt=0, description="how fast a gate closes below the mean")
    least: float = Field(0.9, ge=0, le=1, description="smallest product of gates to keep")

    def decide(self, entering: Entering) -> str:
        rows = entering.select({"raw": self.raw, "written": self.written, "captions": self.captions})
        sample, raw, written = (
            f"exp({self.gamma!r} * ({one} - {_mean(one)}))" for one in ("captions", "raw", "written")
        )
        product = f"CASE WHEN {sample} < 1 THEN {sample} * greatest({raw}, {written}) ELSE 1 END"
        return decided(rows, f"coalesce({product} >= {self.least!r}, false) AND captions IS NOT NULL")


def _mean(column: str) -> str:
    """A sum of decimals does not depend on the order in which threads add."""
    return f"(CAST(sum(CAST({column} AS DECIMAL(18, 9))) OVER () AS DOUBLE) / count({column}) OVER ())"
