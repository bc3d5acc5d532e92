"""What a new run begins from: the weights of `init`, offered as a checkpoint offers its own.

A checkpoint of open_clip_train that is named by its file alone is a run to go on with: its steps count, its samples
are behind it, and what its AdamW remembers comes along.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.multimodal import Multimodal
from tercet.training.config import RunConfig
from tercet.training.pretrained import pretrained, take_over
from tercet.training.progress import Progress


class InitialWeights:
    """Weights from elsewhere, their progress and, if there are any, moments such as `optim/exp_avg/NAME`."""

    def __init__(
        self, source: str, weights: Mapping[str, Tensor], progress: Progress, moments: Mapping[str, Tensor]
    ) -> None:
        self.source, self.progress = source, progress
        self._weights, self._moments = weights, moments

    def fill(self, model: Multimodal) -> None:
        take_over(model, self._weights, self.source)

    @property
    def ranks(self) -> int:
        return 0

    def names(self, prefix: str) -> list[str]:
        return sorted(name.removeprefix(prefix) for name in self._moments if name.startswith(prefix))

    def read(self, name: str) -> Tensor:
        return self._moments[name]

    def read_shard(self, name: str, rank: int) -> Tensor:
        raise KeyError(name)  # no rank wrote it


def begin(config: RunConfig, world: World) -> InitialWeights | None:
    """The start of a run that has no checkpoint yet. A collective: the first rank downloads what is not there."""
    if config.init is None:
        return None
    found = pretrained(config.init)
    first = found.weights() if world.first else None
    world.wait_for_all()
    weights = found.weights() if first is None else first
    progress, moments = _standing(config, Path(config.init), world)
    return InitialWeights(found.source, weights, progress, moments)


def _standing(config: RunConfig, path: Path, world: World) -> tuple[Progress, Mapping[str, Tensor]]:
    if not path.is_file():
        return Progress(), {}
    from tercet.models.interop.open_clip_train import standing_of

    standing = standing_of(path)
    if standing is None:
        return Progress(), {}
    if 0 < config.steps <= standing.step:
        raise UserError(
            f"init {path}: it has taken {standing.step} steps, and `steps` is {config.steps}: give more to go on, or "
            f"begin anew from its weights with init=open_clip:NAME/{path}"
        )
    fault = standing.fault if config.optimizer.name == "adamw" else "it is of another optimizer"
    if world.first:
        left = f"; what its optimizer remembers is left behind: {fault}" if fault else ""
        print(f"tercet: {path} goes on at step {standing.step}, after epoch {standing.epoch}{left}", file=sys.stderr)
    progress = _progress(config, standing.step, standing.batch_size or config.batch_size)
    return (progress, {}) if fault else (replace(progress, counters={"step": float(standing.step)}), standing.moments)


def _progress(config: RunConfig, step: int, batch_size: int) -> Progress:
    """A single source stands behind the samples that were taken; of several, nobody knows where each stands."""
    samples, alone = step * batch_size, len(config.data.train) == 1 and config.data.mode == "index"
    cursors = dict.fromkeys(config.data.train, samples) if alone else {}
    lengths = config.lengths if config.stages else []
    ended = sum(sum(lengths[: index + 1]) <= step for index in range(len(lengths)))
    return Progress(step, samples, samples, ended, cursors)
