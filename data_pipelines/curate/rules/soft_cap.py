"""Draws samples again and again, so that good ones come several times, as FLYT's soft-cap sampling does.

After Shechter and Carmon (2025): each round draws `round` samples without replacement, p ~ exp(score / temperature),
and then lowers the scores of those that it drew by `penalty`. Scores are kept in a file, which each round reads in
blocks; memory holds the counts, two bytes a sample. The noise of a round is a function of the round and the sample.

Shape letters: N samples that enter, n those of a block, K candidates.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tercet.data_pipelines.curate.chance import gumbel, items
from tercet.data_pipelines.curate.database import quoted
from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.curate.rules.best import Share
from tercet.data_pipelines.curate.rules.rule import curation_rule, decided
from tercet.data_pipelines.plans.listing import LARGEST_COUNT
from tercet.data_pipelines.progress import with_progress
from tercet.errors import UserError
from tercet.whole_file import whole_file

BLOCK = 2**20
SAVED_EVERY = 64  # rounds


@curation_rule("soft_cap")
class SoftCap(Share):
    """Draws `fraction` or `count` samples in total; a sample may be drawn several times. Its count says how often."""

    fraction: float | None = Field(None, gt=0, description="draws divided by the samples that enter; may exceed 1")
    temperature: float = Field(1.0, gt=0, description="low: nearly the best samples; high: nearly any samples")
    round: int = Field(100_000, gt=0, description="samples that a round draws, each once")
    penalty: float = Field(
        0.15, ge=0, description="what a draw takes from the score of its sample, in units of `temperature`"
    )
    cap: int = Field(LARGEST_COUNT, gt=0, le=LARGEST_COUNT, description="most draws of one sample (FLYT's hard cap)")
    seed: int = Field(0, ge=0, lt=2**63, description="of the draws")

    def decide(self, entering: Entering) -> str:
        draws = SoftCapDraws.open(entering, self)
        rounds = range(draws.done, -(-self.wanted(entering) // self.round))
        for turn in with_progress(rounds, f"{entering.place}: draws", len(rounds)):
            draws.draw(turn, min(self.round, self.wanted(entering) - turn * self.round))
            if (turn + 1) % SAVED_EVERY == 0:
                draws.save(turn + 1)
        return decided(draws.written(), keep="count > 0", count="count")


@dataclass
class SoftCapDraws:
    """The samples in a file of scores, and how often each was drawn in the rounds that are done."""

    rule: SoftCap
    rows: Path
    folder: Path
    score_N: NDArray[np.float64]
    item_N: NDArray[np.uint64]
    times_N: NDArray[np.uint16]
    place: str
    done: int = 0

    @classmethod
    def open(cls, entering: Entering, rule: SoftCap) -> "SoftCapDraws":
        folder, rows = entering.folder, entering.folder / "scores.parquet"
        if not rows.is_file():
            entering.write(entering.select({"score": f"CAST(({rule.by}) AS DOUBLE)"}), rows)
        score_N = np.lib.format.open_memmap(folder / "score.npy", "w+", np.float64, (entering.count,))
        item_N = np.lib.format.open_memmap(folder / "item.npy", "w+", np.uint64, (entering.count,))
        at = 0
        for batch in arrow().parquet.ParquetFile(rows).iter_batches(BLOCK):
            stop = at + batch.num_rows
            score_n = batch["score"].to_numpy(zero_copy_only=False)
            score_N[at:stop] = np.where(np.isfinite(score_n), score_n, -np.inf) / rule.temperature
            item_N[at:stop] = _items(batch)
            at = stop
        saved = folder / "times.npz"
        if saved.is_file():
            with np.load(saved) as found:
                return cls(rule, rows, folder, score_N, item_N, found["times"], entering.place, int(found["done"]))
        return cls(rule, rows, folder, score_N, item_N, np.zeros(entering.count, np.uint16), entering.place)

    def draw(self, turn: int, count: int) -> None:
        """The `count` largest of score - penalty x times + noise, in blocks."""
        value_K, place_K = np.empty(0), np.empty(0, dtype=np.int64)
        for start in range(0, len(self.score_N), BLOCK):
            value_n = self._values(turn, slice(start, start + BLOCK))
            value_K = np.concatenate([value_K, value_n])
            place_K = np.concatenate([place_K, start + np.arange(len(value_n))])
            if len(value_K) > count:
                best = np.argpartition(-value_K, count - 1)[:count]
                value_K, place_K = value_K[best], place_K[best]
        if len(value_K) < count or not np.isfinite(value_K).all():
            left = int(np.isfinite(value_K).sum())
            raise UserError(
                f"{self.place}: round {turn + 1} draws {count:,} samples, but only {left:,} have a score and may be "
                "drawn; lower `round` or `fraction`, or raise `cap`"
            )
        self.times_N[place_K] += 1

    def _values(self, turn: int, block: slice) -> NDArray[np.float64]:
        times_n = self.times_N[block]
        value_n = (
            self.score_N[block]
            - self.rule.penalty * times_n
            + gumbel("soft_cap", self.rule.seed, self.item_N[block], turn)
        )
        value_n[times_n >= self.rule.cap] = -np.inf
        return value_n

    def save(self, done: int) -> None:
        with whole_file(self.folder / "times.npz") as draft, draft.open("wb") as file:
            np.savez(file, times=self.times_N, done=done)

    def written(self) -> str:
        """A query for the counts of all samples."""
        pa, path, at = arrow(), self.folder / "counts.parquet", 0
        schema = pa.schema([("source", pa.string()), ("id", pa.int64()), ("count", pa.int32())])
        with whole_file(path) as draft, pa.parquet.ParquetWriter(draft, schema) as writer:
            for batch in pa.parquet.ParquetFile(self.rows).iter_batches(BLOCK, columns=["source", "id"]):
                count = pa.array(self.times_N[at : at + batch.num_rows].astype(np.int32))
                writer.write_batch(pa.record_batch([batch["source"], batch["id"], count], schema=schema))
                at += batch.num_rows
        return f"SELECT * FROM read_parquet({quoted(path)})"


def _items(batch: Any) -> NDArray[np.uint64]:
    source_n = np.array(batch["source"].to_pylist(), dtype=object)
    id_n, item_n = batch["id"].to_numpy(), np.empty(batch.num_rows, dtype=np.uint64)
    for name in dict.fromkeys(source_n.tolist()):
        item_n[source_n == name] = items(name, id_n[source_n == name])
    return item_n
