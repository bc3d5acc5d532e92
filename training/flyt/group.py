"""Learns the scores of a data set, and writes them as a group of a score table.

Shape letters: n pairs of a part, N of all parts, F columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tercet.data_pipelines.curate.score_group import ID, ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.seeding import uniforms
from tercet.errors import UserError
from tercet.eval.embedding.store import Store
from tercet.eval.score import PairVectors, pair_vectors, pairs_of
from tercet.training.flyt.config import LearnConfig
from tercet.training.flyt.inner_step import Pairs
from tercet.training.flyt.learn import learn
from tercet.training.flyt.scorer import Mixture, VectorScorer, features_of

COLUMNS = {
    "score": ScoreColumn("float32", "logit of the weight of the pair: the higher, the more it helps on the target")
}


@dataclass(frozen=True)
class LearnedGroup:
    """The group, the loss on the target at the first and at the last step, and the weights of a mixture."""

    group: ScoreGroup
    losses: tuple[float, float]
    weights: Mapping[str, float]


class FeatureReader:
    """What the scorer reads of pairs: their vectors, or their values in columns of the score table."""

    def __init__(self, table: ScoreTable, config: LearnConfig) -> None:
        self.values = [column_values(table, config.source, column) for column in config.columns]

    def __call__(self, vectors: PairVectors) -> Tensor:
        """`[n, F]`: NaN where a sample has no value."""
        if not self.values:
            return features_of(vectors.one_nd, vectors.other_nd)
        rows = [[one.get(id, float("nan")) for one in self.values] for id in vectors.id_n]
        return torch.tensor(rows).view(-1, len(self.values))


def learn_group(task: ScoreTask, config: LearnConfig, store: Store, target: Store) -> LearnedGroup:
    sides = sides_of(store, target)
    request = {"by": "flyt", "model": store.facts["weights"], "target": target.facts["data"]}
    request |= config.model_dump(mode="json")
    if task.group in task.table.groups:
        task.begin(request, COLUMNS)  # refuses other values before it learns
    reader = FeatureReader(task.table, config)
    drawn = drawn_pairs(store, sides, config)
    aims = pairs_in(pair_vectors(target, range(target.facts["samples"]), *sides))
    feature_NF = reader(drawn)
    check_columns(feature_NF, config.columns)
    with torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        dim = drawn.one_nd.shape[1]
        scorer = Mixture.of(feature_NF) if config.columns else VectorScorer(dim, config.width)
    losses = learn(scorer, feature_NF, pairs_in(drawn), aims, config)
    group = task.begin(request, COLUMNS)
    for ids in group.parts(task.name):
        vectors = pair_vectors(store, ids, *sides)
        with torch.no_grad():
            score_n = scorer(reader(vectors)).numpy()
        task.write(group, ids, COLUMNS, [(vectors.id_n, {"score": score_n})])
    weights = scorer.weight_F.tolist() if isinstance(scorer, Mixture) else []
    return LearnedGroup(task.finish(group), (losses[0], losses[-1]), dict(zip(config.columns, weights, strict=True)))


def sides_of(store: Store, target: Store) -> tuple[str, str]:
    """The modalities of the pairs, which the data and the target share."""
    shared = [pair for pair in pairs_of(store) if pair in pairs_of(target)]
    if not shared:
        raise UserError(
            f"the data hold {', '.join(store.modalities)}, and the target {', '.join(target.modalities)}; pairs need "
            "two modalities that both hold"
        )
    return next((pair for pair in shared if "text" in pair), shared[0])


def check_columns(feature_NF: Tensor, columns: Sequence[str]) -> None:
    """Refuses columns that tell no two pairs apart."""
    for place, column in enumerate(columns):
        known_n = feature_NF[:, place][feature_NF[:, place].isfinite()]
        if len(set(known_n.tolist())) < 2:
            raise UserError(
                f"`{column}` has no two different values for the {len(feature_NF):,} pairs to learn from; leave it out"
            )


def drawn_pairs(store: Store, sides: tuple[str, str], config: LearnConfig) -> PairVectors:
    """About `samples` of the pairs. Which they are depends on the seed and the ids alone."""
    count, size = store.facts["samples"], store.facts["piece"]
    share = config.samples / max(count, config.samples)
    parts = []
    for start in range(0, count, size):
        part = pair_vectors(store, range(start, min(start + size, count)), *sides)
        draw_n = uniforms("flyt drawn", config.seed, 0, np.array(part.id_n, dtype=np.int64), 1)[:, 0]
        row_n = torch.from_numpy(np.flatnonzero(draw_n < share))
        id_n = [part.id_n[row] for row in row_n.tolist()]
        parts.append(PairVectors(id_n, part.group_n[row_n], part.one_nd[row_n], part.other_nd[row_n]))
    return PairVectors(
        [id for part in parts for id in part.id_n],
        torch.cat([part.group_n for part in parts]),
        torch.cat([part.one_nd for part in parts]),
        torch.cat([part.other_nd for part in parts]),
    )


def pairs_in(vectors: PairVectors) -> Pairs:
    return Pairs(vectors.one_nd, vectors.other_nd, vectors.group_n)


def column_values(table: ScoreTable, source: str, column: str) -> dict[int, float]:
    """The numbers of a column, by the id of the sample."""
    group, dot, name = column.partition(".")
    if not dot:
        raise UserError(f"`{column}` is not a column of a score table; write GROUP.COLUMN, as similarity.image_text")
    values: dict[int, float] = {}
    for batch in table.group(group).batches(source, [name]):
        numbers = zip(batch[ID].to_pylist(), batch[name].to_pylist(), strict=True)
        try:
            values |= {id: float(number) for id, number in numbers if number is not None}
        except (TypeError, ValueError):
            raise UserError(f"`{column}` does not hold numbers; a mixture needs columns of numbers") from None
    return values
