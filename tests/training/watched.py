"""What the terms of a run see and find in each step."""

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.terms import Outcome, Terms
from tests.training.published import run_all


@dataclass(frozen=True)
class Seen:
    """One step: its samples, the inputs of its fields, the losses of its terms, and the gradients by field."""

    ids: list[int]
    inputs: dict[str, Tensor]
    losses: dict[str, float]
    rows: dict[str, Tensor]


def watch(world: World, recipes: dict[str, list[str]]) -> dict[str, list[Seen]]:
    """Runs recipes with these overrides. A name may go on after that of the recipe: `negclip without neighbours`."""
    found: dict[str, list[Seen]] = {name: [] for name in recipes}
    call = Terms.__call__

    def look(self: Terms, batch: Batch, *rest: Any) -> Outcome:
        outcome = call(self, batch, *rest)
        inputs = {name: field.values.clone() for name, field in batch}
        losses = {term: float(loss) for term, loss in outcome.losses.items()}
        rows = {name: rows.clone() for name, rows in outcome.rows.items()}
        now.append(Seen(batch.ids.tolist(), inputs, losses, rows))
        return outcome

    with patch.object(Terms, "__call__", look):
        for name, overrides in recipes.items():
            now = found[name]
            run_all(world, {name.partition(" ")[0]: overrides})
    return found
