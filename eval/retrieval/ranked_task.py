"""What tasks share that rank candidates: which metrics of the ranking they report."""

from typing import Annotated

from pydantic import Field

from tercet.eval.ranking.rank_metrics import MetricName
from tercet.eval.task import Task


class RankedTask(Task):
    """Ranks candidates for queries."""

    recall_at: tuple[Annotated[int, Field(gt=0)], ...] = Field((1, 5, 10), description="R@k for these k")
    further: tuple[MetricName, ...] = Field(
        ("median rank", "mean rank", "mAP@10"),
        description="further metrics: P@k, R-precision, mAP, mAP@k, MRR, nDCG@k, median rank, mean rank",
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*(f"R@{k}" for k in self.recall_at), *self.further)
