"""Whether the training data can fill a batch without repeating a sample, which would be its own negative."""

from tercet.data_pipelines.plans.plan import Plan
from tercet.errors import UserError


def check_batch_size(plan: Plan, batch_size: int) -> None:
    within = plan.mix == "within_batches"
    where, samples = ("the training data", plan.samples) if within else _smallest(plan)
    if batch_size > samples:
        raise UserError(
            f"batch_size is {batch_size:,}, but {where} hold only {samples:,} samples, so that a batch would repeat "
            f"some; set batch_size={samples} or less, or add data"
        )


def _smallest(plan: Plan) -> tuple[str, int]:
    """The source that limits a batch where each batch comes from one source."""
    share = min(plan.shares, key=lambda share: share.samples)
    return f"the data of `{share.name}`", share.samples
