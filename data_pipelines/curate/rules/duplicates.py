"""Rules that keep one sample of those that are alike."""

from typing import ClassVar

from pydantic import Field

from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.curate.rules.rule import Rule, curation_rule, decided


@curation_rule("duplicates")
class Duplicates(Rule):
    """Keeps the first sample of each cluster of near-duplicates. A sample in no cluster stays."""

    bare: ClassVar[str] = "first"
    first: str = Field("duplicates.first", description="the column that is true for the sample to keep")

    def decide(self, entering: Entering) -> str:
        return decided(entering.select({"keep": f"coalesce(CAST(({self.first}) AS BOOLEAN), true)"}))


@curation_rule("semantic_duplicates")
class SemanticDuplicates(Rule):
    """SemDeDup (Abbas et al. 2023): drops a sample that is too similar to one farther from the centroid."""

    bare: ClassVar[str] = "eps"
    eps: float = Field(0.05, ge=0, le=2, description="the larger, the more samples count as duplicates")
    nearest: str = Field(
        "semantic_duplicates.nearest", description="the column with the cosine to the most similar one of these samples"
    )

    @property
    def label(self) -> str:
        return f"eps {self.eps:g}"

    def decide(self, entering: Entering) -> str:
        return decided(entering.select({"keep": f"coalesce(({self.nearest}) <= {1 - self.eps!r}, true)"}))
