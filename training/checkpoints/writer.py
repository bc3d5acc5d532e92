"""Writes checkpoints, and restores the optimizer moments from them.

A checkpoint holds tensors by name in safetensors files, and the run's progress in `state.json`. It does not depend on
the ZeRO stage or on the number of ranks. All ranks together assemble each whole tensor, and one of them writes it; the
ranks take turns. Of a sharded tensor, each rank writes the rows that it owns.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tercet.distributed import World
from tercet.training.checkpoints.commit import commit
from tercet.training.checkpoints.progress import Progress
from tercet.training.checkpoints.reader import OPTIM, SHARDED, WEIGHT, Origin, Saved
from tercet.training.engines.engine import Engine
from tercet.training.engines.partition import assemble, placed
from tercet.whole_file import sync, write_json


@dataclass(frozen=True)
class SavedTensor:
    """A tensor for a checkpoint. It is the same on all ranks, or, if `sharded`, each rank has the rows that it owns."""

    name: str
    value: Tensor
    sharded: bool = False


def save(parent: Path, engine: Engine, memories: Iterable[SavedTensor], progress: Progress, world: World) -> Path:
    """Commits a checkpoint. `memories`: their tensors. A collective."""
    own = list(own_tensors(engine, memories, world))
    sharded = json.dumps([saved.name for saved in own if saved.sharded])

    def write(folder: Path) -> None:
        path = folder / f"rank_{world.rank:05d}.safetensors"
        save_file({saved.name: saved.value for saved in own}, path, {SHARDED: sharded})
        sync(path)

    return _commit(parent, replace(progress, counters=counters(engine)), write, world)


def save_again(parent: Path, saved: Saved, progress: Progress, world: World) -> Path:
    """Commits the tensors of an older checkpoint as the newest one, with the run's current progress. A collective."""

    def write(folder: Path) -> None:
        for part in saved.path.glob("*.safetensors") if world.first else ():
            shutil.copyfile(part, folder / part.name)
            sync(folder / part.name)

    return _commit(parent, replace(progress, counters=saved.progress.counters), write, world)


def _commit(parent: Path, progress: Progress, write_tensors: Callable[[Path], None], world: World) -> Path:
    """Commits the tensors that every rank writes, with the progress beside them."""
    about = {"world": world.size, "step": progress.step, "samples": progress.samples}

    def write(folder: Path) -> None:
        write_tensors(folder)
        if world.first:
            write_json(folder / "state.json", asdict(progress))

    return commit(parent, progress.step, write, about, world)


def own_tensors(engine: Engine, memories: Iterable[SavedTensor], world: World) -> Iterator[SavedTensor]:
    """The tensors that this rank writes: its rows of sharded tensors, and every W-th of the others. A collective."""
    for turn, saved in enumerate(tensors(engine, memories)):
        if saved.sharded or turn % world.size == world.rank:
            yield replace(saved, value=saved.value.to("cpu", copy=True).contiguous())


def tensors(engine: Engine, memories: Iterable[SavedTensor]) -> Iterator[SavedTensor]:
    """All tensors of a checkpoint. A collective."""
    for name, value in engine.weights():
        yield SavedTensor(f"{WEIGHT}/{name}", value)
    for kind in moments(engine):
        for one in placed(engine):
            values = None if one.fragment is None else engine.optimizer.state[one.fragment.flat][kind]
            yield SavedTensor(f"{OPTIM}/{kind}/{one.name}", assemble(engine, one, values))
    yield from memories


def moments(engine: Engine) -> list[str]:
    """The names of the optimizer's moments, such as `exp_avg`; the same on all ranks. A collective."""
    states = engine.optimizer.state.items()
    own = {key for flat, state in states for key, value in state.items() if is_moment(value, flat)}
    return sorted(set().union(*engine.world.gather_objects(own)))


def is_moment(value: object, flat: Tensor) -> bool:
    """Whether a value of the optimizer's state has one element for each element of the tensor that it updates."""
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape == flat.shape


def counters(engine: Engine) -> dict[str, float]:
    """The optimizer's scalars, such as `step`. They are the same for every parameter."""
    for flat, state in engine.optimizer.state.items():
        return {key: float(value) for key, value in state.items() if not is_moment(value, flat)}
    return {}


@torch.no_grad()
def restore_moments(origin: Origin, engine: Engine) -> None:
    """Restores the optimizer moments of this rank's fragments. The model already has the weights.

    Moments that the origin lacks, such as those of a block that was locked, start at zero, and so do those of positions
    whose number the stage has changed.
    """
    known = set(origin.names(f"{OPTIM}/"))
    kinds = sorted({name.partition("/")[0] for name in known})
    for one in placed(engine):
        if one.fragment is None:
            continue
        state = engine.optimizer.state[one.fragment.flat]
        for kind in kinds:
            into = state.setdefault(kind, torch.zeros_like(one.fragment.flat))
            if f"{kind}/{one.name}" in known:
                moment = origin.read(f"{OPTIM}/{kind}/{one.name}")
                if moment.numel() == one.shape.numel():
                    one.fragment.copy(moment, into)
        for key, value in origin.progress.counters.items():
            state[key] = torch.tensor(value, device=one.fragment.flat.device)  # a fused optimizer needs it there
