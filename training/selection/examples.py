"""selection_examples.jsonl in the run's folder: some samples that were chosen and some that were left, for the report.

A line holds the number of a step, the name of the score, and some of the first rank's samples: those with the highest
and the lowest scores among the chosen ones and among the others, from high to low. A sample has its id, its score, and
whether it is known to be bad. A resumed run deletes the lines after its checkpoint.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from tercet.training.selection.rule import SuperBatch
from tercet.training.selection.strata import Kept

EXAMPLES = "selection_examples.jsonl"
LINES = 5  # of a stage, evenly spread from its first step to its last
EACH = 3  # samples with the highest scores, and as many with the lowest


def due(step: int, steps: range) -> bool:
    """Whether the examples of this step of the stage are recorded."""
    last = len(steps) - 1
    return step - steps.start in {round(last * line / (LINES - 1)) for line in range(LINES)}


def note_examples(path: Path, drawn: SuperBatch, kept: Kept, bad: str | None) -> None:
    """Adds the line of a step. Only the first rank calls it, for a rule with scores."""
    assert kept.scores is not None
    chosen_n = torch.zeros(len(drawn.batch), dtype=torch.bool, device=drawn.batch.ids.device)
    chosen_n[kept.places] = True
    bad_n = None if bad is None else drawn.batch.values[bad] > 0
    line = {"step": drawn.step + 1, "scored": kept.scored}
    for name, among_n in (("chosen", chosen_n), ("left", ~chosen_n)):
        line[name] = [
            {
                "id": int(drawn.batch.ids[place]),
                "score": float(kept.scores[place]),
                "bad": None if bad_n is None else bool(bad_n[place]),
            }
            for place in extremes(kept.scores, among_n)
        ]
    with path.open("a", encoding="utf-8") as lines:
        print(json.dumps(line, allow_nan=False), file=lines)


def extremes(score_n: Tensor, among_n: Tensor) -> list[int]:
    """The places of the highest and of the lowest finite scores, from high to low; all of them if there are few."""
    place_m = torch.nonzero(among_n & score_n.isfinite()).flatten()
    ranked = place_m[score_n[place_m].argsort(descending=True, stable=True)].tolist()
    return ranked if len(ranked) <= 2 * EACH else [*ranked[:EACH], *ranked[-EACH:]]
