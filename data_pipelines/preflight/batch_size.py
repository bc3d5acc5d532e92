"""Checks that the data can fill a batch without repeating a sample, which would then be its own negative."""

from tercet.data_pipelines.plans.plan import Plan
from tercet.errors import UserError
from tercet.plural import number_of


def check_batch_size(plan: Plan, batch_size: int, drawn: int) -> None:
    """`drawn`: the samples that a step draws, before `selection` drops some."""
    within = plan.mix == "within_batches"
    where, samples = ("the training data", plan.samples) if within else _smallest(plan)
    if drawn > samples:
        draws = f" and a step draws {drawn:,}" if drawn > batch_size else ""
        raise UserError(
            f"batch_size is {batch_size:,}{draws}, but {where} hold only {number_of(samples, 'sample')}, so that a "
            f"batch would repeat some. Set batch_size={samples * batch_size // drawn} or less, or add data"
        )


def _smallest(plan: Plan) -> tuple[str, int]:
    """The source that limits a batch where each batch comes from one source."""
    share = min(plan.shares, key=lambda share: share.samples)
    return f"the data of `{share.name}`", share.samples
