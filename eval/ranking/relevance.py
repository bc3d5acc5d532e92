"""Graded right answers: samples that say in their `meta` how relevant others are, such as `{"a12": 2, "b7": 0.5}`."""

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor

from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.ranking.rights import Rights
from tercet.eval.task import NoValue, lookup


def graded(table: EmbeddingTable, path: str, group: Tensor, item_Q: Tensor, item_C: Tensor) -> Rights:
    """The candidates with a grade above 0 for each query. `group` of each item: its own has the grade 1, unless the
    sample names it."""
    items = {sample.key: item for item, sample in enumerate(table.samples)}
    rows: dict[int, list[int]] = {}
    for row, item in enumerate(item_C.tolist()):
        rows.setdefault(item, []).append(row)
    own: dict[int, list[int]] = {}
    for item in rows:
        own.setdefault(int(group[item]), []).append(item)
    found: dict[int, list[tuple[int, float]]] = {}
    for item in dict.fromkeys(item_Q.tolist()):
        named = {items[key]: grade for key, grade in _grades(table, path, item).items() if key in items}
        grades = dict.fromkeys(own.get(int(group[item]), ()), 1.0) | named
        found[item] = [(row, grade) for other, grade in grades.items() if grade > 0 for row in rows.get(other, ())]
        if not found[item]:
            raise EvalError(f"`{path}` of sample `{table.samples[item].key}` leaves it no right answer; name one")
    lists = [found[item] for item in item_Q.tolist()]
    count_Q = torch.tensor([len(one) for one in lists])
    column = torch.tensor([row for one in lists for row, _ in one])
    grade = torch.tensor([grade for one in lists for _, grade in one], dtype=torch.float64)
    return Rights(count_Q.cumsum(0) - count_Q, count_Q, column, grade)


def _grades(table: EmbeddingTable, path: str, item: int) -> Mapping[str, float]:
    sample = table.samples[item]
    try:
        value = lookup(sample.meta, path)
    except NoValue:
        return {}
    if not isinstance(value, Mapping) or not all(map(_is_number, value.values())):
        raise EvalError(f"`{path}` of sample `{sample.key}` must map keys of samples to numbers, such as {{a12: 2}}")
    return {str(key): float(grade) for key, grade in value.items()}


def _is_number(grade: object) -> bool:
    return isinstance(grade, int | float) and isfinite(grade)
