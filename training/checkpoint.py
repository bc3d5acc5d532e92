"""Writes checkpoints and restores optimizer moments: safetensors by name, and a few numbers in `state.json`.

Nothing in a checkpoint depends on the ZeRO stage. A whole tensor is put together from all ranks and written by one of
them in turn; a sharded one is written in parts, each by its owner, and another number of ranks reads what it needs.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tercet.distributed import World
from tercet.training.checkpoint_reader import OPTIM, SHARDED, WEIGHT, Origin, Saved
from tercet.training.commit import commit, sync, write_synced
from tercet.training.engine import Engine
from tercet.training.memory.config import EMA
from tercet.training.memory.memories import Memories
from tercet.training.memory.memory import SavedTensor
from tercet.training.partition import assemble, placed
from tercet.training.progress import Progress


def save(parent: Path, engine: Engine, memories: Memories, progress: Progress, world: World) -> Path:
    """Commits a checkpoint. A collective."""
    mine = list(own_share(engine, memories, world))
    sharded = json.dumps([one.name for one in mine if one.sharded])

    def write(folder: Path) -> None:
        path = folder / f"rank_{world.rank:05d}.safetensors"
        save_file({one.name: one.value for one in mine}, path, {SHARDED: sharded})
        sync(path)

    return _commit(parent, replace(progress, counters=counters(engine)), write, world)


def save_again(parent: Path, saved: Saved, progress: Progress, world: World) -> Path:
    """Commits what an older checkpoint holds as the newest, told how far the run has come since. A collective."""

    def write(folder: Path) -> None:
        for part in saved.path.glob("*.safetensors") if world.first else ():
            shutil.copyfile(part, folder / part.name)
            sync(folder / part.name)

    return _commit(parent, replace(progress, counters=saved.progress.counters), write, world)


def _commit(parent: Path, progress: Progress, write_tensors: Callable[[Path], None], world: World) -> Path:
    """The tensors that every rank writes, and beside them how far the run is."""
    about = {"world": world.size, "step": progress.step, "samples": progress.samples}
    state = json.dumps(asdict(progress), indent=2).encode()

    def write(folder: Path) -> None:
        write_tensors(folder)
        if world.first:
            write_synced(folder / "state.json", state)

    return commit(parent, progress.step, write, about, world)


def own_share(engine: Engine, memories: Memories, world: World) -> Iterator[SavedTensor]:
    """What this rank writes: its rows of sharded tensors, and each W-th of the others. A collective."""
    for turn, one in enumerate(tensors(engine, memories)):
        if one.sharded or turn % world.size == world.rank:
            yield replace(one, value=one.value.to("cpu", copy=True).contiguous())


def tensors(engine: Engine, memories: Memories) -> Iterator[SavedTensor]:
    """All that is saved. A collective."""
    for name, value in weights(engine):
        yield SavedTensor(f"{WEIGHT}/{name}", value)
    for kind in moments(engine):
        for one in placed(engine):
            values = None if one.fragment is None else engine.optimizer.state[one.fragment.flat][kind]
            yield SavedTensor(f"{OPTIM}/{kind}/{one.name}", assemble(engine, one, values))
    yield from memories.state()


def weights(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """Parameters, and the buffers that belong to the model. A collective."""
    for name, parameter in engine.module.named_parameters():
        yield name, engine.whole(parameter)
    persistent = engine.module.state_dict().keys()
    for name, buffer in engine.module.named_buffers():
        if name in persistent:
            yield name, buffer


def current_weights(engine: Engine, memories: Memories) -> dict[str, Tensor]:
    """What evaluation runs on, by name: the averages if the run keeps them, else the weights. A collective."""
    return dict(weights(engine)) | memories.whole(EMA)


def moments(engine: Engine) -> list[str]:
    """The names of what the optimizer remembers of every element, such as exp_avg; on all ranks the same."""
    states = engine.optimizer.state.items()
    mine = {key for flat, state in states for key, value in state.items() if is_like(value, flat)}
    return sorted(set().union(*engine.world.gather_objects(mine)))


def is_like(value: object, flat: Tensor) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape == flat.shape


def counters(engine: Engine) -> dict[str, float]:
    """The optimizer's own scalars, such as its step; the same for every parameter."""
    for flat, state in engine.optimizer.state.items():
        return {key: float(value) for key, value in state.items() if not is_like(value, flat)}
    return {}


@torch.no_grad()
def restore_moments(origin: Origin, engine: Engine) -> None:
    """Restores the optimizer moments of this rank's fragments; the model itself was built from the weights.

    What the origin does not hold, such as the moments of a block that was locked, starts as in a new run.
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
                one.fragment.copy(origin.read(f"{OPTIM}/{kind}/{one.name}"), into)
        for key, value in origin.progress.counters.items():
            state[key] = torch.tensor(value, device=one.fragment.flat.device)  # where a fused optimizer keeps it
