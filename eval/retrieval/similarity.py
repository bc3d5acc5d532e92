"""Similarity: do pairs that people find alike have similar vectors? Each sample holds a pair and a grade.

The two parts of a pair may be two texts of the sample's `.json`, or a picture or a sound and a text. The measures are
the rank correlation (Spearman) and the linear one (Pearson) between the cosine of a pair and its grade. Semantic text
similarity reports Spearman's first (Cer et al. 2017). Constant vectors have a correlation of 0, as chance has.
"""

from math import isfinite, nan
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field

from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores
from tercet.eval.retrieval.combined import Parts, given_away, summed
from tercet.eval.statistics.jackknife import Correlation
from tercet.eval.task import KINDS, NoValue, Task, lookup


def _weighing_one(part: Any) -> Any:
    return {part: 1.0} if isinstance(part, str) else part


OfPair = Annotated[Parts, BeforeValidator(_weighing_one)]


@KINDS.register("similarity")
class SimilarityTask(Task):
    """Whether the cosines of pairs agree with the grades that people gave them."""

    first: OfPair = Field(
        description="one part of each pair: a text of `.json` such as `json.sentence1`, a modality such as `image`, or "
        "a weighted sum of these"
    )
    second: OfPair = Field(description="the other part, such as `json.sentence2`")
    grade: str = Field("score", description="where the grade of a pair is in the `meta` of a sample")

    @property
    def metrics(self) -> tuple[str, ...]:
        return "spearman", "pearson"

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        graded = grades(table, self)
        first, second = (summed(table, embed_text, parts) for parts in (self.first, self.second))
        there_n = first.there_n & second.there_n
        items = torch.tensor([item for item in graded if there_n[item]], dtype=torch.long)
        if not len(items):
            raise EvalError(
                f"no graded sample of the data has both parts of a pair of task `{self.name}`: "
                f"{' + '.join(self.first)} and {' + '.join(self.second)}; if tercet took both columns for captions, "
                "name the first: data={'source': FILE, 'text': COLUMN}"
            )
        cosine_Q = (first.vectors_nd[items].double() * second.vectors_nd[items].double()).sum(dim=1)
        grade_Q = torch.tensor([graded[item] for item in items.tolist()], dtype=torch.float64)
        both_Q2 = torch.stack([cosine_Q, grade_Q], dim=1)
        statistics = {"spearman": Correlation(both_Q2, ranks=True), "pearson": Correlation(both_Q2, ranks=False)}
        subject = f"{' + '.join(self.first)}, {' + '.join(self.second)}"
        none = dict.fromkeys(statistics, 0.0)
        alike = given_away(table, self.first, self.second)
        nulls = NullScores(none, dict[str, float | None](dict.fromkeys(statistics)) if alike else {**none})
        return [Measure(subject, statistics, items, table.groups[items], none, nulls=nulls)]


def grades(table: EmbeddingTable, task: SimilarityTask) -> dict[int, float]:
    """The grade of each item that has one."""
    found = {}
    for item, sample in enumerate(table.samples):
        try:
            value: Any = lookup(sample.meta, task.grade)
        except NoValue:
            continue
        if value in (None, ""):  # an empty cell of a table
            continue
        found[item] = _number(value)
        if not isfinite(found[item]):
            raise EvalError(
                f"the grade `{task.grade}` of sample `{sample.key}` is `{value}`, which is not a number; correct it, "
                f"or name another key in `grade` of task `{task.name}`"
            )
    if not found:
        raise EvalError(f"no sample of the data has `{task.grade}` in its meta, the grade of task `{task.name}`")
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return nan
