"""An order in which samples bring their neighbours into the batch: hard negatives by retrieval.

The idea is that of NegCLIP (Yuksekgonul et al. 2023), which adds similar pictures to each batch. Ranks that are
neither too near nor too far follow SciNCL (Ostendorff et al. 2022). UniME (Gu et al. 2025) drops perhaps false
negatives by their score first.

A batch of B samples begins with T tuples, each of a seed and k of its neighbours, followed by seeds alone. The seeds
are the samples of another order, one after the other, so every epoch has each sample once as a seed. The neighbours of
a seed are drawn by a permutation of its own, so those of one tuple differ. Where a seed has too few, samples of a
second shuffle of the same source take the places. All of this is a function of the position, of B and of the graph.

Shape letters: n positions, t tuples, k neighbours of a tuple.
"""

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.composition import NeighborsConfig
from tercet.data_pipelines.plans.graph import NeighborGraph
from tercet.data_pipelines.plans.order import Ints, Order, region
from tercet.data_pipelines.plans.shuffle import shuffled
from tercet.data_pipelines.seeding import keys
from tercet.errors import UserError

BROUGHT_IN = 2**48  # added to appearances as a neighbour: more than the appearances of any sample as a seed
TRIES = 16  # samples that may take the place of a missing neighbour, before one appears twice in a tuple


class Neighbors:
    """`seeds`: the order of the seeds. `others`: another shuffle of the same samples. `per_batch`: B of this source."""

    def __init__(
        self,
        config: NeighborsConfig,
        graph: NeighborGraph,
        seeds: Order,
        others: Order,
        seed: int,
        per_batch: int,
        streams: int,
    ) -> None:
        self.graph, self.per_batch, self.brought = graph, per_batch, config.num_negatives
        self._seeds, self._others, self._seed, self._streams = seeds, others, seed, streams
        self._draws = config.sampling_strategy == "random"
        self.tuples = config.tuples(per_batch)
        if not self.tuples:
            raise UserError(
                f"a batch has {per_batch} samples of this source, so none can bring neighbours; raise `batch_size`, or "
                "change `share` or `num_negatives` of `neighbors`"
            )
        self._alone = self.tuples * (1 + self.brought)  # the first place of a seed without neighbours
        self._seeds_per_batch = per_batch - self.tuples * self.brought
        self.samples = self._first_position_of(seeds.samples)

    def epoch(self, position: int) -> int:
        """How often each sample was a seed."""
        return self._seeds.epoch(int(self._seed_at(np.array([position]))[0]))

    def at(self, position_n: Ints) -> Ints:
        batch_n, place_n = np.divmod(position_n, self.per_batch)
        id_n = self._seeds.at(self._seed_at(position_n))
        (in_tuple,) = np.nonzero(place_n < self._alone)
        turn_n, member_n = np.divmod(place_n[in_tuple], 1 + self.brought)
        tuple_t, index_n = np.unique(batch_n[in_tuple] * self.tuples + turn_n, return_inverse=True)
        if len(tuple_t):
            id_n[in_tuple] = self._tuples(tuple_t)[index_n, member_n]
        return id_n

    def appearance(self, position_n: Ints) -> Ints:
        """As a seed, that of the order of seeds. As a neighbour, a number of its own."""
        as_seed_n = self._seeds.appearance(self._seed_at(position_n))
        appearance_n: Ints = np.where(self._is_seed(position_n), as_seed_n, BROUGHT_IN + position_n)
        return appearance_n

    def piece(self, position_n: Ints) -> Ints:
        """By the place of a sample in the source. Neighbours are anywhere, and each process reads its own region."""
        return region(self.at(position_n), self._streams, len(self.graph.count_N))

    def __str__(self) -> str:
        brought = self.tuples * self.brought
        return f"{brought:,} of {self.per_batch:,} samples of a batch are neighbours of others, by {self.graph}"

    def _seed_at(self, position_n: Ints) -> Ints:
        """The place in the order of seeds of the seed at each position, or of that of its tuple."""
        batch_n, place_n = np.divmod(position_n, self.per_batch)
        alone_n = self.tuples + place_n - self._alone
        turn_n = np.where(place_n < self._alone, place_n // (1 + self.brought), alone_n)
        seed_n: Ints = batch_n * self._seeds_per_batch + turn_n
        return seed_n

    def _is_seed(self, position_n: Ints) -> NDArray[np.bool_]:
        place_n = position_n % self.per_batch
        seed_n: NDArray[np.bool_] = (place_n >= self._alone) | (place_n % (1 + self.brought) == 0)
        return seed_n

    def _first_position_of(self, seed: int) -> int:
        """The first position that has this seed."""
        batch, turn = divmod(seed, self._seeds_per_batch)
        place = turn * (1 + self.brought) if turn < self.tuples else self._alone + turn - self.tuples
        return batch * self.per_batch + place

    def _tuples(self, tuple_t: Ints) -> Ints:
        """The ids of whole tuples: the seed, then its neighbours."""
        batch_t, turn_t = np.divmod(tuple_t, self.tuples)
        seed_t = batch_t * self._seeds_per_batch + turn_t
        id_tk = np.empty((len(tuple_t), 1 + self.brought), dtype=np.int64)
        id_tk[:, 0] = self._seeds.at(seed_t)
        count_t, key_t = self.graph.count_N[id_tk[:, 0]], keys("neighbours", self._seed, 0, seed_t)
        for turn in range(self.brought):
            rank_t = np.full(len(tuple_t), turn, dtype=np.int64)
            has_t = count_t > turn
            if self._draws:
                rank_t[has_t] = shuffled(rank_t[has_t], count_t[has_t], key_t[has_t])
            id_tk[has_t, 1 + turn] = self.graph.neighbor_Nk[id_tk[has_t, 0], rank_t[has_t]]
            (lacks,) = np.nonzero(~has_t)
            id_tk[lacks, 1 + turn] = self._filled(id_tk[lacks, : 1 + turn], tuple_t[lacks] * self.brought + turn)
        return id_tk

    def _filled(self, present_tk: Ints, place_t: Ints) -> Ints:
        """For each place without a neighbour, a sample that is not in its tuple yet."""
        id_t = self._others.at(place_t)
        for turn in range(1, TRIES):
            (again,) = np.nonzero((present_tk == id_t[:, None]).any(axis=1))
            if not len(again):
                break
            id_t[again] = self._others.at(place_t[again] + turn)
        return id_t
