"""The weights of `init`, from which a new run starts, with the interface of a checkpoint.

If `init` is the path of a checkpoint of open_clip_train, tercet continues that run: it starts at the checkpoint's step
and loads the moments of its AdamW.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.multimodal import Multimodal
from tercet.training.checkpoints.progress import Progress
from tercet.training.config import RunConfig
from tercet.training.pretrained import load_weights, pretrained


class InitialWeights:
    """The weights of `init`, the progress of their run, and its moments, such as `optim/exp_avg/NAME`, if any."""

    def __init__(
        self, source: str, weights: Mapping[str, Tensor], progress: Progress, moments: Mapping[str, Tensor]
    ) -> None:
        self.source, self.progress = source, progress
        self._weights, self._moments = weights, moments

    def fill(self, model: Multimodal) -> None:
        load_weights(model, self._weights, self.source)

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
    """The initial weights of a run without a checkpoint. A collective: the first rank downloads them if necessary."""
    if config.init is None:
        return None
    found = pretrained(config.init)
    first = found.weights() if world.first else None
    world.wait_for_all()
    weights = found.weights() if first is None else first
    progress, moments = _optimizer_state(config, Path(config.init), world)
    return InitialWeights(found.source, weights, progress, moments)


def _optimizer_state(config: RunConfig, path: Path, world: World) -> tuple[Progress, Mapping[str, Tensor]]:
    """The progress and moments of a checkpoint of open_clip_train. Other weights have none."""
    if not path.is_file():
        return Progress(), {}
    from tercet.models.interop.open_clip_train import read_optimizer_state

    state = read_optimizer_state(path)
    if state is None:
        return Progress(), {}
    if 0 < config.steps <= state.step:
        raise UserError(
            f"init {path}: its run has taken {state.step} steps, but `steps` is {config.steps}. Set `steps` to more to "
            f"continue it, or use its weights alone with init=open_clip:NAME/{path}"
        )
    problem = state.fault if config.optimizer.name == "adamw" else "they belong to another optimizer"
    if world.first:
        dropped = f"; its optimizer moments are not used: {problem}" if problem else ""
        print(f"tercet: continues {path} at step {state.step}, after epoch {state.epoch}{dropped}", file=sys.stderr)
    progress = _progress(config, state.step, state.batch_size or config.batch_size)
    return (progress, {}) if problem else (replace(progress, counters={"step": float(state.step)}), state.moments)


def _progress(config: RunConfig, step: int, batch_size: int) -> Progress:
    """The progress after `step` steps. A single source continues after the samples that the run has used.

    With several sources, each starts anew, because the checkpoint does not say how many samples of each were used.
    """
    samples, is_single = step * batch_size, len(config.data.train) == 1 and config.data.mode == "index"
    cursors = dict.fromkeys(config.data.train, samples) if is_single else {}
    lengths = config.lengths if config.stages else []
    ended = sum(sum(lengths[: index + 1]) <= step for index in range(len(lengths)))
    return Progress(step, samples, samples, ended, cursors)
