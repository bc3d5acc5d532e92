"""A checkpoint, written and taken up: weights, moments and averages as safetensors by name, and a few numbers.

Nothing in it depends on the ZeRO stage or on the number of ranks: each tensor is put together from all ranks and
written by one of them in turn.
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
from tercet.training.average import Average
from tercet.training.checkpoint_reader import AVERAGE, WEIGHT, Origin, Saved
from tercet.training.commit import commit, sync, write_synced
from tercet.training.engine import Engine
from tercet.training.partition import Fragment, assemble, placed
from tercet.training.progress import Progress


def save(parent: Path, engine: Engine, average: Average | None, progress: Progress, world: World) -> Path:
    """Commits a checkpoint. A collective."""
    mine = dict(own_share(engine, average, world))

    def write(folder: Path) -> None:
        path = folder / f"rank_{world.rank:05d}.safetensors"
        save_file(mine, path)
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


def own_share(engine: Engine, average: Average | None, world: World) -> Iterator[tuple[str, Tensor]]:
    """Every tensor is put together on all ranks; this rank keeps each W-th. A collective."""
    for turn, (name, value) in enumerate(tensors(engine, average)):
        if turn % world.size == world.rank:
            yield name, value.to("cpu", copy=True).contiguous()


def tensors(engine: Engine, average: Average | None) -> Iterator[tuple[str, Tensor]]:
    """All that is saved, whole, under `KIND/NAME`. A collective."""
    yield from weights(engine, average)
    for kind in moments(engine):
        for one in placed(engine):
            values = None if one.fragment is None else engine.optimizer.state[one.fragment.flat][kind]
            yield f"{kind}/{one.name}", assemble(engine, one, values)


def weights(engine: Engine, average: Average | None) -> Iterator[tuple[str, Tensor]]:
    """Parameters, the buffers that belong to the model, and averages. A collective."""
    for name, parameter in engine.module.named_parameters():
        yield f"{WEIGHT}/{name}", engine.whole(parameter)
    persistent = engine.module.state_dict().keys()
    for name, buffer in engine.module.named_buffers():
        if name in persistent:
            yield f"{WEIGHT}/{name}", buffer
    if average is not None:
        for one in placed(engine):
            values = None if one.fragment is None else average.of(one.fragment.flat)
            yield f"{AVERAGE}/{one.name}", assemble(engine, one, values)


def current_weights(engine: Engine, average: Average | None) -> dict[str, Tensor]:
    """What evaluation runs on, by name: the averages where they are kept, else the weights. A collective."""
    kinds: dict[str, dict[str, Tensor]] = {WEIGHT: {}, AVERAGE: {}}
    for path, value in weights(engine, average):
        kind, _, name = path.partition("/")
        kinds[kind][name] = value
    return kinds[WEIGHT] | kinds[AVERAGE]


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
def restore(origin: Origin, engine: Engine, average: Average | None) -> None:
    """Gives this rank's fragments their moments and averages back; the model itself was built from the weights.

    What the origin does not know, such as the moments of a block that was locked, starts as it would in a new run.
    """
    kinds = [kind for kind in origin.kinds() if kind not in (WEIGHT, AVERAGE)]
    for one in placed(engine):
        if one.fragment is None:
            continue
        state = engine.optimizer.state[one.fragment.flat]
        for kind in kinds:
            into = state.setdefault(kind, torch.zeros_like(one.fragment.flat))
            copy(origin, f"{kind}/{one.name}", one.fragment, into)
        for key, value in origin.progress.counters.items():
            state[key] = torch.tensor(value)
        if average is not None:
            copy(origin, f"{AVERAGE}/{one.name}", one.fragment, average.of(one.fragment.flat))


def copy(origin: Origin, name: str, fragment: Fragment, into: Tensor) -> None:
    if name in origin:
        fragment.of(into).copy_(origin.read(name).view(-1)[fragment.begin : fragment.begin + fragment.count])
