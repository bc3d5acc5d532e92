"""ALIP: a raw and a synthetic caption, gated by how well they agree with each other and with the picture (Yang et al.
2023).

    L = Σ_x 1/N Σ_i w_i v_ix l_ix,    x the raw and the synthetic caption, l_ix the InfoNCE loss of picture and caption

    w_i  = min(1, e^(2 (c_i − H)))    c_i the cosine of the two captions
    v_ix = e^(2 (c_ix − H_x))         c_ix that of picture and caption; 1 where w_i = 1

H and H_x are moving averages of these cosines over the steps. They start at 1, so gates are small at first, and include
the current batch. All gates are constants. This follows the authors' code. An item needs all three; of fields with
several rows, the first one counts.

Shapes: N items of all ranks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.pairs import losses_of_items, solve_pairs
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows
from tercet.models.term_config import TermConfig


class Gated(Objective):
    """InfoNCE with a weight of each row."""

    def row_weight(self, row: Anchors) -> Tensor:
        return row.rows.extra["gate"]


@objective("alip")
class ALIP(Objective):
    """A raw and a synthetic caption, each weighted by how well it fits (ALIP, Yang et al. 2023).

    The term has three fields: a picture or sound, its raw caption, and a synthetic one, such as text.synthetic.
    """

    momentum: Annotated[float, Field(ge=0, lt=1, description="share of earlier steps in the moving averages")] = 0.99
    strength: Annotated[
        float, Field(ge=0, description="the factor in the exponent of the gates; 0: all samples count the same")
    ] = 2.0

    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")

    @property
    def averages(self) -> Mapping[str, float]:
        return {"captions": 1.0, "raw": 1.0, "synthetic": 1.0}

    def check(self, term: TermConfig) -> None:
        if len(term.between) != 3:
            raise UserError(
                f"terms.{term.name}: `{term.objective.name}` needs three fields, such as between: [image, text, "
                f"text.synthetic], but got {len(term.between)}"
            )
        super().check(term)

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        gated, whole.averages = self._gated(problem)
        masks = shared_rows(problem)
        for part in gated:
            found = solve_pairs(Gated(), part)
            for name, slope_nd in found.rows.items():
                whole.rows[name][masks[name][problem.fields[name].own]] += slope_nd
            whole.add(replace(found, rows={}))
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        for part in self._gated(problem)[0]:
            yield from losses_of_items(Gated(), part)

    def _gated(self, problem: Problem) -> tuple[list[Problem], dict[str, Tensor]]:
        """The two pairs with the gates of their rows, and the new moving averages."""
        masks = shared_rows(problem)
        (image, x), (raw, y), (synthetic, z) = ((name, rows.pick(masks[name])) for name, rows in problem.fields.items())
        cosines = {"captions": cosine(y, z), "raw": cosine(x, y), "synthetic": cosine(x, z)}
        averages = {
            name: self.momentum * problem.averages[name] + (1 - self.momentum) * cosine_N.mean()
            for name, cosine_N in cosines.items()
        }
        if not len(x):
            return [], dict(problem.averages)
        gates = {name: ((one - averages[name]) * self.strength).exp() for name, one in cosines.items()}
        sample_N = gates["captions"].clamp(max=1.0)
        parts = []
        for name, rows, key in ((raw, y, "raw"), (synthetic, z, "synthetic")):
            gate_N = sample_N * torch.where(sample_N < 1, gates[key], 1.0)
            fields = {image: with_gate(x, gate_N), name: with_gate(rows, gate_N)}
            parts.append(replace(problem, fields=fields, counts={}))
        return parts, averages


def shared_rows(problem: Problem) -> dict[str, Tensor]:
    """By field: which rows are the first of an item that has all fields."""
    every = list(problem.fields.values())
    return {
        name: (rows.number_N == 0) & torch.stack([torch.isin(rows.item_N, one.item_N) for one in every]).all(dim=0)
        for name, rows in problem.fields.items()
    }


def cosine(one: Rows, other: Rows) -> Tensor:
    return torch.bmm(one.z_Nd[:, None], other.z_Nd[:, :, None]).flatten()


def with_gate(rows: Rows, gate_N: Tensor) -> Rows:
    return replace(rows, extra={**rows.extra, "gate": gate_N})
