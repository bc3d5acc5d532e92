"""The sample at each position: a pure function, so that the state of the loader is one integer.

`Order` is the interface that a loader needs. `Shuffled` is the usual order: positions count on over the epochs, and
every epoch has each sample once. The shards are laid out in an order that is drawn once, and cut into C equal pieces:
the canonical streams. Position p belongs to stream p mod C, whatever the batch size or the numbers of ranks and
workers. In each epoch a stream reads its piece with the shards in a new order and the samples of each shard shuffled,
and then shuffles the samples within each window of the stream.

Neighbouring positions belong to distant pieces (digits reversed, as in van der Corput's sequence). If a batch is sorted
by piece and cut into contiguous parts, each rank gets the same number of samples, always from the same region of the
layout: a node reads its part of the shards and no others.

Shape letters: n positions, S shards, C streams.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.plans.shuffle import shuffled
from tercet.data_pipelines.seeding import keys, uniforms

Ints = NDArray[np.int64]
BLOCKS = 2**32  # more than the windows of a stream; combines both numbers into one


@dataclass(frozen=True)
class Epoch:
    """The layout of one epoch: where its pieces and shards begin."""

    shard_S: Ints  # the shards in the order of the layout
    begin_S: Ints  # the place where each begins
    piece_C: Ints  # the place where each piece begins
    length_C: Ints  # its number of samples
    offset_C: Ints  # the first position in the epoch of the piece's stream


class Order(Protocol):
    """The sample of a source at each position. A pure function: no state, no generator, and the same on every
    process."""

    samples: int  # of an epoch

    def epoch(self, position: int) -> int:
        """How many epochs are complete before this position."""
        ...

    def at(self, position_n: Ints) -> Ints:
        """The ids of the samples at these positions."""
        ...

    def appearance(self, position_n: Ints) -> Ints:
        """A number that differs between the appearances of one sample; its random crop, caption and augmentation are
        drawn by it."""
        ...

    def piece(self, position_n: Ints) -> Ints:
        """Sorts the positions of a batch, so that each process gets samples that are stored near each other."""
        ...


class Shuffled:
    """Shuffles the samples of shards of known sizes, anew in each epoch."""

    def __init__(self, counts: Ints, seed: int, streams: int = 256, window: int = 4096) -> None:
        self.counts, self.seed, self.streams, self.window = counts, seed, streams, window
        self.samples = int(counts.sum())
        self._first_S = np.cumsum(counts) - counts  # id of each shard's first sample
        self._piece_C = reversed_digits(streams)
        self._stream_C = np.argsort(self._piece_C)
        self._layout = _layout(len(counts), seed)
        self._epoch = lru_cache(maxsize=3)(self._laid_out)

    def epoch(self, position: int) -> int:
        return position // self.samples

    def appearance(self, position_n: Ints) -> Ints:
        return position_n // self.samples

    def piece(self, position_n: Ints) -> Ints:
        """The number of the piece in the layout that each position belongs to."""
        piece_n: Ints = self._piece_C[position_n % self.streams]
        return piece_n

    def at(self, position_n: Ints) -> Ints:
        """The ids at these positions."""
        epoch_n = position_n // self.samples
        id_n = np.empty_like(position_n)
        for epoch in np.unique(epoch_n).tolist():
            here = epoch_n == epoch
            id_n[here] = self._within(epoch, position_n[here])
        return id_n

    def _within(self, number: int, position_n: Ints) -> Ints:
        epoch = self._epoch(number)
        piece_n = self.piece(position_n)
        turn_n = (position_n - number * self.samples - epoch.offset_C[piece_n]) // self.streams
        turn_n = self._windowed(number, piece_n, turn_n, epoch.length_C[piece_n])
        place_n = epoch.piece_C[piece_n] + turn_n
        at_n = np.searchsorted(epoch.begin_S, place_n, side="right") - 1
        shard_n = epoch.shard_S[at_n]
        key_n = keys("shard", self.seed, number, shard_n)
        id_n: Ints = self._first_S[shard_n] + shuffled(place_n - epoch.begin_S[at_n], self.counts[shard_n], key_n)
        return id_n

    def _windowed(self, number: int, piece_n: Ints, turn_n: Ints, length_n: Ints) -> Ints:
        """Shuffles turns within their window. The borders of the windows move from epoch to epoch."""
        phase_n = (keys("phase", self.seed, number, piece_n) % np.uint64(self.window)).astype(np.int64)
        block_n = (turn_n + phase_n) // self.window
        begin_n = np.maximum(block_n * self.window - phase_n, 0)
        end_n = np.minimum((block_n + 1) * self.window - phase_n, length_n)
        key_n = keys("window", self.seed, number, piece_n * BLOCKS + block_n)
        goes_n: Ints = begin_n + shuffled(turn_n - begin_n, end_n - begin_n, key_n)
        return goes_n

    def _laid_out(self, number: int) -> Epoch:
        """A stream keeps its shards in all epochs, except at its borders, and changes their order."""
        shards = len(self.counts)
        own_piece_S = np.arange(shards) * self.streams // shards
        draw_S = uniforms("shards", self.seed, number, self._layout, 1)[:, 0]
        shard_S = self._layout[np.lexsort((draw_S, own_piece_S))]
        count_S = self.counts[shard_S]
        offset_C = (self._stream_C - number * self.samples) % self.streams
        length_C = np.maximum(-(-(self.samples - offset_C) // self.streams), 0)
        filled = count_S > 0
        begin_S = np.cumsum(count_S) - count_S
        return Epoch(shard_S[filled], begin_S[filled], np.cumsum(length_C) - length_C, length_C, offset_C)


def region(id_n: Ints, regions: int, samples: int) -> Ints:
    """Which of so many equal parts of a source each sample is stored in: a `piece` for orders that jump about."""
    region_n: Ints = id_n * regions // samples
    return region_n


def own_seed(source: str, seed: int) -> int:
    """A seed for each source. Otherwise samples with equal ids of two equal sources would always share a batch."""
    return int(keys(f"order {source}", seed, 0, [0])[0])


def _layout(shards: int, seed: int) -> Ints:
    draw_S = uniforms("layout", seed, 0, np.arange(shards), 1)[:, 0]
    return np.argsort(draw_S, kind="stable")


def reversed_digits(count: int) -> Ints:
    """The numbers 0 … count - 1 with reversed digits, in the mixed base of count's prime factors, smallest first."""
    rest, reverse, weight = np.arange(count), np.zeros(count, dtype=np.int64), count
    for factor in _factors(count):
        weight //= factor
        reverse += rest % factor * weight
        rest //= factor
    return reverse


def _factors(count: int) -> list[int]:
    for factor in range(2, count + 1):
        if count % factor == 0:
            return [factor, *_factors(count // factor)]
    return []
