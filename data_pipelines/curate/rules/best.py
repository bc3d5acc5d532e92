"""Rules over expressions: a condition, the best samples by a score, and draws by a score."""

from typing import ClassVar

from pydantic import Field, model_validator

from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.curate.rules.rule import Rule, curation_rule, decided


@curation_rule("where")
class Where(Rule):
    """Keeps the samples for which an expression of SQL is true. Without a value (null), it is not true.

    CiT's threshold (Xu et al. 2023) is a condition on the similarity of captions to a task's metadata.
    """

    bare: ClassVar[str] = "expression"
    expression: str = Field(description="a condition in SQL over columns: `similarity.image_text > 0.28`")

    def decide(self, entering: Entering) -> str:
        return decided(entering.select({"keep": f"coalesce(CAST(({self.expression}) AS BOOLEAN), false)"}))


class Share(Rule):
    """A rule that keeps a fixed number of samples."""

    by: str = Field(description="the score, an expression of SQL over columns; higher is better")
    fraction: float | None = Field(None, gt=0, le=1, description="what to keep of the samples that enter the stage")
    count: int | None = Field(None, gt=0, description="how many samples to keep, instead of `fraction`")

    @property
    def label(self) -> str:
        return f"{self.by}, {f'{self.count:,}' if self.count else f'{100 * (self.fraction or 0):.6g} %'}"

    @model_validator(mode="after")
    def _says_how_many(self) -> "Share":
        if (self.fraction is None) == (self.count is None):
            raise ValueError("give either `fraction` or `count`")
        return self

    def wanted(self, entering: Entering) -> int:
        """The fraction is rounded, and at least one sample."""
        return self.count or max(1, round((self.fraction or 0) * entering.count))


def ranked(entering: Entering, by: str, noise: str = "0") -> str:
    """A query that adds the rank of each sample. Among equals, the first one of the data ranks higher."""
    finite = "CASE WHEN isfinite(score) THEN score END"
    rows = entering.select({"score": f"CAST(({by}) AS DOUBLE)"})
    return (
        f"SELECT source, id, score, row_number() OVER (ORDER BY value DESC NULLS LAST, source, id) AS rank "
        f"FROM (SELECT source, id, {finite} AS score, {finite} + {noise} AS value FROM ({rows}))"
    )


@curation_rule("top")
class Top(Share):
    """Keeps the samples with the highest scores, over all sources together. A sample without a score is dropped.

    With `similarity.image_text` and 0.3, this is the CLIP-score filter of DataComp (Gadre et al. 2023). With the
    similarity to a task's metadata, it is CiT's `min_ratio`.
    """

    def decide(self, entering: Entering) -> str:
        return decided(ranked(entering, self.by), f"rank <= {self.wanted(entering)} AND score IS NOT NULL")


@curation_rule("sample")
class Sample(Share):
    """Draws samples without replacement, p ~ exp(score / temperature), as QuRating does (Wettig et al. 2024).

    The draw is the top of score / temperature plus Gumbel noise, which is a function of the seed and the sample.
    """

    temperature: float = Field(1.0, gt=0, description="low: nearly the best samples; high: nearly any samples")
    seed: int = Field(0, ge=0, lt=2**63, description="of the draw")

    def decide(self, entering: Entering) -> str:
        noise = f"{self.temperature!r} * gumbel(source, id, {self.seed})"
        return decided(ranked(entering, self.by, noise), f"rank <= {self.wanted(entering)} AND score IS NOT NULL")
