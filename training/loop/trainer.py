"""The training loop: a batch, a step, a record, and at intervals a checkpoint or an evaluation."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from tercet.data_pipelines.batches.transfer import on_device
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import RankError, UserError
from tercet.training.checkpoints.progress import Progress
from tercet.training.engines.schedule import learning_rate
from tercet.training.hooks.hook import Hook, StepRecord
from tercet.training.loop.analysis import analyse
from tercet.training.loop.collapse import CollapseAlarm
from tercet.training.loop.stage import Stage
from tercet.training.loop.step import Taken

PATIENCE = (
    20  # how many steps in a row may be skipped, because their loss or gradient is not finite, until the run stops
)


@dataclass(frozen=True)
class Callbacks:
    """What the loop calls between steps, on all ranks.

    `evaluate` returns whether the run ends early, and `stop` whether a signal stops it.
    """

    save: Callable[[Stage, Progress], None]
    evaluate: Callable[[Stage, Progress], bool]
    stop: Callable[[], bool]


class Trainer:
    """Takes the steps of a stage that are still to do. `steps` is the number of steps of the whole run."""

    def __init__(self, world: World, hook: Hook, callbacks: Callbacks, steps: int) -> None:
        self.world, self.hook, self.callbacks, self.steps = world, hook, callbacks, steps
        self.pace = Pace()
        self.skipped = 0  # steps in a row
        self.collapse = CollapseAlarm()

    def run(self, stage: Stage, progress: Progress, stop: int) -> Progress:
        """Takes the steps up to `stop`, or fewer if the run ends before."""
        batches = map(stage.retrieve, on_device(iter(stage.loader), self.world.device))
        for step in range(progress.step, stop):
            rate = self._rate(stage, step)
            chosen = stage.select(self._next(batches, step), step)
            batch = chosen.batch
            taken = stage.take(batch, step)
            self.skipped = 0 if taken.stepped.applied else self.skipped + 1
            self._check(step)
            self.collapse.look(step + 1, taken.outcome)
            progress = progress.after(
                batch.cursors, stage.config.batch_size, stage.config.drawn, stage.index, stage.loader.plan.digest
            )
            self.pace.tick(stage.config.batch_size)
            self.hook.step(self._record(stage, progress, taken, rate, chosen.measures))
            if self._evaluate_or_save(stage, progress) or self.callbacks.stop():
                break
        return progress

    def _next(self, batches: Iterator[Batch], step: int) -> Batch:
        try:
            return next(batches)
        except StopIteration:
            raise UserError(
                f"the data ended after step {step:,} of {self.steps:,}: "
                "lower `steps`, or set `repeat: true` on a source"
            ) from None
        except UserError as error:
            raise RankError(f"rank {self.world.rank}: {error}") from None

    def _rate(self, stage: Stage, step: int) -> float:
        config = stage.config
        rate = learning_rate(config.schedule, config.optimizer.lr, step - stage.steps.start, len(stage.steps))
        stage.engine.set_learning_rate(rate)
        return rate

    def _check(self, step: int) -> None:
        if self.skipped >= PATIENCE:
            raise UserError(
                f"skipped {self.skipped} steps in a row up to step {step + 1}, because the loss or the gradient was "
                "not finite: lower optimizer.lr, or check the data. The last checkpoint is intact"
            )

    def _evaluate_or_save(self, stage: Stage, progress: Progress) -> bool:
        """Evaluates or saves if this step is due; returns whether the run ends early. The caller ends the stage."""
        saves, evaluates = stage.config.checkpoint.every, stage.config.eval.interval(self.steps)
        if progress.step == stage.steps.stop:
            return False
        due = evaluates is not None and progress.step % evaluates == 0
        ends = due and self.callbacks.evaluate(stage, progress)
        if saves and progress.step % saves == 0 and not ends:
            self.callbacks.save(stage, progress)
        return ends

    def _record(
        self, stage: Stage, progress: Progress, taken: Taken, rate: float, measures: Mapping[str, float]
    ) -> StepRecord:
        left = self.steps - progress.step
        return StepRecord(
            step=progress.step,
            steps=self.steps,
            samples=progress.samples,
            drawn=progress.drawn,
            drawn_per_s=self.pace.samples_per_s * stage.config.drawn / stage.config.batch_size,
            sources=progress.cursors,
            loss=float(taken.outcome.loss),
            losses={term: float(loss) for term, loss in taken.outcome.losses.items()},
            scales={term: float(scale) for term, (scale, _) in taken.temperatures.items()},
            biases={term: float(bias) for term, (_, bias) in taken.temperatures.items() if bias is not None},
            lr=rate,
            grad_norm=taken.stepped.grad_norm,
            samples_per_s=self.pace.samples_per_s,
            seconds_left=left * self.pace.seconds_per_step,
            skipped=self._skipped(stage),
            epoch=stage.loader.epoch(progress.cursors),
            stage=stage.name,
            analysis=self._analysis(stage, progress.step, taken),
            selection=measures,
        )

    def _analysis(self, stage: Stage, step: int, taken: Taken) -> dict[str, float]:
        """The measures of the embedding space, on the first rank, at the first step, the last, and when loggers log."""
        config = stage.config
        due = config.log.analysis and (step in (1, self.steps) or step % config.log.every == 0)
        return analyse(taken.outcome, config.terms, config.seed, step) if due and self.world.first else {}

    def _skipped(self, stage: Stage) -> int:
        """The number of bad samples so far, over all ranks. A collective."""
        own = torch.tensor(float(stage.loader.bad.total()), device=self.world.device)
        return int(self.world.sum(own))


class Pace:
    """The speed of the last steps. The first step is slow, so it counts only until there is a second one."""

    def __init__(self, window: int = 50) -> None:
        self._ticks: deque[tuple[float, int]] = deque([(time.perf_counter(), 0)], maxlen=window)
        self._warm = False

    def tick(self, samples: int) -> None:
        if len(self._ticks) == 2 and not self._warm:
            self._ticks.popleft()
            self._warm = True
        self._ticks.append((time.perf_counter(), samples))

    @property
    def seconds_per_step(self) -> float:
        return (self._ticks[-1][0] - self._ticks[0][0]) / max(len(self._ticks) - 1, 1)

    @property
    def samples_per_s(self) -> float:
        samples = sum(count for _, count in list(self._ticks)[1:])
        return samples / max(self._ticks[-1][0] - self._ticks[0][0], 1e-9)
