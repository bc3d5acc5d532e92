"""The folder of an episode. It appears with all its files or not at all, as a checkpoint does.

    RUN/episodes/step_00000040/
        samples/FINGERPRINT/*.safetensors          a column without values: the ids of the samples that were drawn
        kept/FINGERPRINT/*.safetensors             those to train on, if `curate` chooses them, with their `cosine`
        vectors/image/FINGERPRINT/*.safetensors    a column with the `vector` of each sample, by modality
        neighbors/SOURCE/FINGERPRINT/*.safetensors    the neighbour graph of a source, if its batches need one
        memories/NAME/tensors.safetensors          what a memory computed from them: tensors,
        memories/NAME/COLUMN/FINGERPRINT/*.safetensors    and columns with values of the samples
        manifest.json                              sizes and hashes of all files

A checkpoint names the episode that is in effect, as it names its plan.
"""

import shutil
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.columns import Column, write_part
from tercet.distributed import World
from tercet.errors import UserError
from tercet.training.checkpoints.commit import commit, committed, flaw, place, step_of
from tercet.training.memory.episode import TENSORS, Episode, Learned, SampleValues
from tercet.whole_file import sync

EPISODES, SAMPLES, KEPT, VECTORS, NEIGHBORS, MEMORIES = (
    "episodes", "samples", "kept", "vectors", "neighbors", "memories",
)  # fmt: skip


def write_episode(
    parent: Path,
    episode: Episode,
    graphs: Mapping[str, SampleValues],
    learned: Mapping[str, Learned],
    sources: Sequence[SourceIds],
    kept: SampleValues | None = None,
) -> Path:
    """Commits what all ranks know of an episode. `graphs`: by the name of the source. `kept`: the samples to train on,
    if these are not all that were drawn. A collective."""
    world = episode.world

    def write(folder: Path) -> None:
        _write_column(folder / SAMPLES, SampleValues(episode.id_n, {}), sources)
        if kept is not None:
            _write_column(folder / KEPT, kept, sources)
        for name, graph in graphs.items():
            _write_column(folder / NEIGHBORS / name, graph, sources)
        for name, found in episode.vectors.items():
            _write_column(folder / VECTORS / name, SampleValues(found.id_n, {"vector": found.z_nd}), sources)
        for name, one in learned.items():
            for column, values in one.columns.items():
                _write_column(folder / MEMORIES / name / column, values, sources)
            if one.tensors and world.first:
                path = folder / MEMORIES / name / TENSORS
                path.parent.mkdir(parents=True, exist_ok=True)
                save_file({key: value.to("cpu", copy=True).contiguous() for key, value in one.tensors.items()}, path)
                sync(path)

    if world.first:  # the run resumed from an older checkpoint, and computes it again
        shutil.rmtree(place(parent, episode.step), ignore_errors=True)
    return commit(parent, episode.step, write, {"world": world.size, "step": episode.step}, world, "an episode")


def _write_column(folder: Path, one: SampleValues, sources: Sequence[SourceIds]) -> None:
    """Writes this rank's values of the samples of each source. Of equal sources, the values of the first one count."""
    for fingerprint in dict.fromkeys(source.fingerprint for source in sources):
        parts = [_within(source.ids, one) for source in sources if source.fingerprint == fingerprint]
        id_n, row_n = np.unique(np.concatenate([part.id_n for part in parts]), return_index=True)
        if len(id_n):
            values = {name: np.concatenate([part.values[name] for part in parts])[row_n] for name in one.values}
            write_part(folder, fingerprint, Column(id_n, values))


def _within(ids: range, one: SampleValues) -> Column:
    among_n = (one.id_n >= ids.start) & (one.id_n < ids.stop)
    values = {name: value[among_n].numpy() for name, value in one.values.items()}
    return Column((one.id_n[among_n] - ids.start).numpy(), values)


def find_episode(parent: Path, step: int, world: World) -> Path:
    """The folder of an episode that a checkpoint names. A collective."""
    path = place(parent, step)
    problem = world.broadcast(flaw(path) if world.first else None)
    if problem:
        raise UserError(
            f"the last checkpoint needs the episode {path}, which cannot be used ({problem}). Restore it, or start a "
            "new run with out=…"
        )
    return path


def prune_episodes(parent: Path, current: int, checkpoints: Sequence[int]) -> None:
    """Deletes all episodes but the current one and those that the checkpoints of these steps may name.

    A checkpoint that was saved at the step of an episode names this episode or the one before.
    """
    steps = sorted(map(step_of, committed(parent)))
    needed = {current}
    for checkpoint in checkpoints:
        needed.update(steps[: bisect_right(steps, checkpoint)][-2:])
    for step in steps:
        if step not in needed:
            shutil.rmtree(place(parent, step))
