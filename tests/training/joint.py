"""Super-batches of given vectors for joint selection, and its scores as loops over single pairs in double precision."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch, Field
from tercet.data_pipelines.seeding import uniforms
from tercet.distributed import World
from tercet.models.term_config import TermConfig
from tercet.training.selection.candidates import Temperature
from tercet.training.selection.compare import Comparison, field_pairs
from tercet.training.selection.jest import JestSelection, JointSelection
from tercet.training.selection.rule import SuperBatch
from tercet.training.selection.strata import Strata

ITEMS, DIM, TILE, SEED, STEP = 32, 8, 5, 3, 4
LONE = (6, 7, 21)  # items that have a picture only
SCALES = {"image-text": 20.0, "audio-text": 9.0}
BIASES = {"image-text": -6.0, "audio-text": -3.0}
REFERENCE = Temperature(30.0, -8.0)
TERMS = tuple(
    TermConfig(between=(x, y), weight=weight, objective={"name": "infonce"})  # type: ignore[arg-type]
    for x, y, weight in (("image", "text", 1.0), ("audio", "text", 0.7))
)
GROUPS = [3 if item in (3, 4, 17) else item for item in range(ITEMS)]


def items_of(field: str) -> list[int]:
    """The item of each row. Some items lack a row, and every fifth has two captions."""
    missing = {"image": (), "audio": (1, 2, 9, 30, *LONE), "text": LONE}[field]
    twice = [item for item in range(0, ITEMS, 5) if field == "text"]
    return sorted([item for item in range(ITEMS) if item not in missing] + [i for i in twice if i not in missing])


def vectors_of(model: str, field: str) -> Tensor:
    """Unit vectors of all rows. Those of one item are alike, and the reference sees more clearly."""
    noise = {"learner": 1.0, "reference": 0.4}[model]
    item_r = torch.tensor(items_of(field))
    random = torch.Generator().manual_seed(7)
    common = torch.randn(ITEMS, DIM, generator=random)
    own = torch.randn(len(item_r), DIM, generator=torch.Generator().manual_seed(hash_of(model, field)))
    return torch.nn.functional.normalize(common[item_r] + noise * own, dim=1)


def hash_of(*words: str) -> int:
    return sum(ord(letter) * (place + 1) for place, letter in enumerate("".join(words)))


@dataclass(frozen=True)
class GivenReference:
    """Stands for a reference model."""

    rows: dict[str, Tensor]

    def vectors(self, batch: Batch) -> dict[str, Tensor]:
        return self.rows

    def temperature(self, x: str, y: str, kind: str) -> Temperature:
        return REFERENCE if kind == "sigmoid" else replace(REFERENCE, bias=0.0)


def super_batch(world: World, strata: int, kept: int) -> tuple[SuperBatch, GivenReference]:
    share = ITEMS // world.size
    first = world.rank * share
    rows: dict[str, dict[str, Tensor]] = {"learner": {}, "reference": {}}
    fields = {}
    for name in ("image", "audio", "text"):
        item_r = torch.tensor(items_of(name))
        own = (item_r >= first) & (item_r < first + share)
        fields[name] = Field(name, torch.zeros(int(own.sum()), 1), item_r[own] - first)
        for model, known in rows.items():
            known[name] = vectors_of(model, name)[own]
    ids = torch.arange(first, first + share)
    batch = Batch(ids, torch.tensor(GROUPS)[ids], fields)
    temperatures = {name: (torch.tensor(SCALES[name]), torch.tensor(BIASES[name])) for name in SCALES}
    learner: Any = SimpleNamespace(
        world=world,
        seed=SEED,
        embed=lambda batch: (rows["learner"], temperatures),
        terms=SimpleNamespace(tile=TILE, weight=lambda term, step: term.weight),
    )
    drawn = SuperBatch(batch, STEP, Strata(strata // world.size, kept), learner)
    return drawn, GivenReference(rows["reference"])


def rule(options: JestSelection, reference: Any) -> JointSelection:
    pairs = field_pairs(TERMS, options.pair_loss)
    compare = Comparison(options.criterion, pairs, reference, options.reference_scale)
    context: Any = SimpleNamespace(config=SimpleNamespace(log=SimpleNamespace(every=STEP + 1)))
    return JointSelection(options, compare, context)


class Naive:
    """Scores of single samples given a list of others, by the definitions."""

    def __init__(self, criterion: str, kind: str, temperature: Temperature | None = None) -> None:
        self.criterion, self.kind, self.temperature = criterion, kind, temperature or REFERENCE
        self.known: dict[tuple[Any, ...], Any] = {}
        self.rows = {
            (model, field): self._items(vectors_of(model, field).double(), items_of(field))
            for model in ("learner", "reference")
            for field in ("image", "audio", "text")
        }

    @staticmethod
    def _items(z: Tensor, items: list[int]) -> dict[int, list[Tensor]]:
        return {item: [z[row] for row, one in enumerate(items) if one == item] for item in set(items)}

    def cosine(self, model: str, x: str, y: str, i: int, j: int) -> float:
        """The mean over all rows of both."""
        key = (model, x, y, i, j)
        if key not in self.known:
            self.known[key] = np.mean([float(a @ b) for a in self.rows[model, x][i] for b in self.rows[model, y][j]])
        return float(self.known[key])

    def score(self, i: int, others: Sequence[int], alone: bool = False) -> float:
        total = weights = 0.0
        for term in TERMS:
            x, y = term.between
            both = self.rows["learner", x].keys() & self.rows["learner", y].keys()
            if i in both:
                keys = [j for j in others if j in both and GROUPS[j] != GROUPS[i]]
                total += term.weight * self.criterion_of(term.name, x, y, i, keys, alone)
                weights += term.weight
        return total / weights if weights else float("nan")

    def criterion_of(self, term: str, x: str, y: str, i: int, keys: list[int], alone: bool) -> float:
        learner = Temperature(SCALES[term], BIASES[term] if self.kind == "sigmoid" else 0.0)
        reference = self.temperature if self.kind == "sigmoid" else Temperature(self.temperature.scale, 0.0)
        if self.criterion == "gradient_norm":
            return self.bound(x, y, i, keys, learner, alone)
        high = 0.0 if self.criterion == "easy_reference" else self.loss("learner", x, y, i, keys, learner, alone)
        low = 0.0 if self.criterion == "hard_learner" else self.loss("reference", x, y, i, keys, reference, alone)
        return high - low

    def logits(self, model: str, x: str, y: str, i: int, keys: list[int], at: Temperature) -> tuple[float, Any, Any]:
        own = at.scale * self.cosine(model, x, y, i, i) + at.bias
        row = np.array([at.scale * self.cosine(model, x, y, i, j) + at.bias for j in keys])
        column = np.array([at.scale * self.cosine(model, x, y, j, i) + at.bias for j in keys])
        return own, row, column

    def loss(self, model: str, x: str, y: str, i: int, keys: list[int], at: Temperature, alone: bool) -> float:
        own, row, column = self.logits(model, x, y, i, keys, at)
        if self.kind == "sigmoid":
            return float(np.log1p(np.exp(-own)) + np.log1p(np.exp(row)).sum() + np.log1p(np.exp(column)).sum())
        if alone:
            return -own
        directions = [-np.log(np.exp(own) / (np.exp(own) + np.exp(one).sum())) for one in (row, column)]
        return float(np.mean(directions))

    def bound(self, x: str, y: str, i: int, keys: list[int], at: Temperature, alone: bool) -> float:
        own, row, column = self.logits("learner", x, y, i, keys, at)
        if self.kind == "sigmoid":
            return float(
                at.scale * (2 / (1 + np.exp(own)) + sum((1 / (1 + np.exp(-one))).sum() for one in (row, column)))
            )
        if alone:
            return -own
        lost = [1 - np.exp(own) / (np.exp(own) + np.exp(one).sum()) for one in (row, column)]
        return float(1.5 * at.scale * sum(lost))

    def independent(self) -> list[float]:
        return [self.score(i, range(ITEMS)) for i in range(ITEMS)]

    def chunks(self, strata: int, kept: int, chunks: int, gain: float, gumbel: bool) -> list[list[int]]:
        """The samples of each chunk, with the noise of the rule."""
        uniform = uniforms("jest", SEED, STEP, np.arange(ITEMS), chunks)
        noise = -np.log(-np.log(uniform)) if gumbel else np.zeros_like(uniform)
        gain = gain if gumbel else 1.0
        chosen: list[list[int]] = []
        for chunk in range(chunks):
            before = [i for one in chosen for i in one]
            scores = [self.score(i, before, alone=chunk == 0) for i in range(ITEMS)]
            found = []
            for stratum in range(strata):
                size = ITEMS // strata
                free = [i for i in range(stratum * size, (stratum + 1) * size) if i not in before]
                wish = {i: -np.inf if scores[i] != scores[i] else gain * scores[i] + noise[i, chunk] for i in free}
                found += sorted(free, key=lambda i: -wish[i])[: share(stratum, strata, kept, chunk, chunks)]
            chosen.append(sorted(found))
        return chosen


def share(stratum: int, strata: int, kept: int, chunk: int, chunks: int) -> int:
    """A stratum gives a sample whenever its count, which begins at its own offset, passes a multiple of `chunks`."""
    count, given = stratum * chunks // strata, []
    for _ in range(chunks):
        before, count = count, count + kept
        given.append(sum(number % chunks == 0 for number in range(before + 1, count + 1)))
    return given[chunk]
