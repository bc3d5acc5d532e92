"""A reduced retrieval set of a dataset, with the hard candidates of reference models."""

from collections.abc import Sequence
from pathlib import Path

from tercet.api.data import Data, looked_at
from tercet.api.evaluate import embedded
from tercet.api.model import Loadable, name_of
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.retrieval.reduced import ReducedSet, reduced_set


def reduce(
    references: Sequence[Loadable], data: Data, out: Path, queries: int = 1000, hard_negatives: int = 50
) -> ReducedSet:
    """Chooses the queries, and the candidates that the reference models find hard, and writes the file `out`."""
    if not references or queries < 1 or hard_negatives < 1:
        raise UserError("a reduced set needs a reference model, and one query and one hard negative or more")
    tables: list[EmbeddingTable] = []
    for model in references:
        with embedded(model, looked_at(name_of(model), data), EvalConfig()) as (_, splits):
            if len(splits) > 1:
                raise UserError(f"the data have the splits {', '.join(splits)}; reduce one of them at a time")
            tables += splits.values()
    found = reduced_set(tables, queries, hard_negatives)
    found.write(out)
    return found
