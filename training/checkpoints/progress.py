"""The progress of a run, which a checkpoint saves beside its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """The step, the numbers of samples, the stage, the digest of the plan, and the optimizer's counters.

    `samples` counts the samples that the run trained on. `drawn` also counts those that a selection dropped. `cursors`
    counts the drawn samples of each source. `episode` is the step of the last episode, if there was one.
    """

    step: int = 0
    samples: int = 0
    drawn: int = 0
    stage: int = 0
    cursors: Mapping[str, int] = field(default_factory=dict)
    plan: str = ""
    counters: Mapping[str, float] = field(default_factory=dict)
    episode: int | None = None

    def after(self, cursors: Mapping[str, int], samples: int, drawn: int, stage: int, plan: str) -> "Progress":
        """The progress after one more step. Sources that this stage does not use keep their cursors."""
        cursors = {**self.cursors, **cursors}
        return Progress(
            self.step + 1, self.samples + samples, self.drawn + drawn, stage, cursors, plan, episode=self.episode
        )
