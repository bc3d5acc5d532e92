"""A table against a plain dictionary: on any number of ranks, moved between them, and within its share of memory."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.distributed import World
from tercet.testing import on_ranks
from tercet.training.checkpoints.reader import Origin
from tercet.training.memory.memory import SavedMemory
from tercet.training.memory.table import SampleTable

COLUMNS = {"score": torch.float32, "count": torch.int32}
SOURCES = {"a": 17, "b": 1, "c": 30}  # samples by fingerprint
State = list[tuple[str, Tensor, bool]]  # what one rank saves


def ids_of(sources: list[str]) -> list[SourceIds]:
    stops = list(accumulate(SOURCES[one] for one in sources))
    return [SourceIds(one, range(stop - SOURCES[one], stop)) for one, stop in zip(sources, stops, strict=True)]


@dataclass
class Ranks:
    """What several ranks saved, read as a checkpoint is."""

    states: list[State]

    @property
    def ranks(self) -> int:
        return len(self.states)

    def names(self, prefix: str) -> list[str]:
        return [name for name, _, _ in self.states[0]]

    def read(self, name: str) -> Tensor:
        found = [value for one, value, sharded in self.states[0] if one == name and not sharded]
        return found[0]

    def read_shard(self, name: str, rank: int) -> Tensor:
        found = [value for one, value, sharded in self.states[rank] if one == name and sharded]
        return found[0]


def value_of(source: str, id: int) -> float:
    return ord(source) + id / 64


def write_some(table: SampleTable, sources: list[str], chosen: int) -> None:
    """All ranks name the same samples, of all sources mixed; every one of them whose id has this remainder by 3."""
    ids, values, first = [], [], 0
    for source in sources:
        for id in range(SOURCES[source]):
            if id % 3 == chosen:
                ids.append(first + id)
                values.append(value_of(source, id))
        first += SOURCES[source]
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    id_N, value_N = torch.tensor(ids)[order], torch.tensor(values)[order]
    own_N = table.owned(id_N)
    count_n = table.get(id_N[own_N])["count"] + 1
    table.put(id_N[own_N], {"score": value_N[own_N], "count": count_n})


def act(world: World, states: list[State] | None, sources: list[str], chosen: int) -> dict[str, Any]:
    table = SampleTable(COLUMNS, ids_of(sources), world)
    if states:
        table.restore(SavedMemory(cast(Origin, Ranks(states)), ""))
    write_some(table, sources, chosen)
    ids = torch.randperm(sum(SOURCES[one] for one in sources), generator=torch.Generator().manual_seed(1))
    return {
        "read": (ids, table.read(ids)),
        "pieces": list(table.pieces(7)),
        "state": [(one.name, one.value, one.sharded) for one in table.state()],
        "cells": sum(len(rows["score"]) for rows in table.rows.values()),
    }


def test_values_stay_with_their_samples_when_the_number_of_ranks_changes() -> None:
    """Two ranks write a third of each source, one another third in another order of the sources, and two the last."""
    states, done = None, {one: set[int]() for one in SOURCES}
    for world, sources, chosen in ((2, ["a", "b", "c"], 0), (1, ["c", "a"], 1), (2, ["c", "b", "a"], 2)):
        ranks = on_ranks(act, world, states, sources, chosen)
        states = [rank["state"] for rank in ranks]
        for source in sources:
            done[source].add(chosen)
        samples = [(source, id) for source in sources for id in range(SOURCES[source])]
        for rank in ranks:
            ids, found = rank["read"]
            for at, id in enumerate(ids.tolist()):
                source, within = samples[id]
                known = within % 3 in done[source]
                assert float(found["score"][at]) == (value_of(source, within) if known else 0.0)
                assert int(found["count"][at]) == int(known)
            pieces = {
                (one, first + at): float(v) for one, first, c in rank["pieces"] for at, v in enumerate(c["score"])
            }
            assert pieces == {
                (one, id): value_of(one, id) if id % 3 in done[one] else 0.0
                for one in SOURCES
                for id in range(SOURCES[one])
            }
            assert rank["cells"] <= sum(-(-count // world) for count in SOURCES.values()), "more than its share"
