"""Warns if the features that a term learns by self-distillation collapse: all samples then look alike to it."""

from tercet.main_process import say
from tercet.models.losses.self_distillation import INFORMATION
from tercet.models.losses.terms import Outcome

LEAST = 0.01  # of what the outputs of the teacher may tell about a sample
FIRST = 0.1  # from this share of a stage on: outputs of a new projector tell little at first


class CollapseAlarm:
    """Looks at the measures of every step, and warns once for each term."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def look(self, step: int, outcome: Outcome) -> None:
        for term, measures in outcome.measures.items():
            if term in self._warned or outcome.progress < FIRST or INFORMATION not in measures:
                continue
            found = float(measures[INFORMATION])
            if not found >= LEAST:
                self._warned.add(term)
                say(
                    f"step {step:,}: warning: the term `{term}` collapses: the teacher's outputs are almost the same "
                    f"for all samples ({INFORMATION} is {found:.2g}; 1 if they tell all apart). Lower optimizer.lr, "
                    "the weight of the term or its teacher_temperature, or raise the decay of the momentum encoder"
                )
