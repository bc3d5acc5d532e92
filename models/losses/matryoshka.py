"""Matryoshka: an objective on nested prefixes of the vectors (Kusupati et al. 2022; jina-clip-v2 for image and text).

    L = Σ_d w_d · L_of(first d dimensions, each normalised anew)

so that vectors can be cut to any of these dimensions afterwards: `tercet eval`, `embed` and `search` take `--dims d`.
By default all weights are 1, as in the paper. The full vector is one of the prefixes only if it is listed.

Where this differs from the paper: the objective is any of tercet's, and all prefixes share one temperature. Vectors of
other models (`references`) are not cut.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from tercet.errors import UserError
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.objective import Objective, build_objective, objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig, TermConfig

EPS = 1e-12  # as in `normalize`


@objective("matryoshka")
class Matryoshka(Objective):
    """Another objective on prefixes of the vectors, so that these can be cut (Kusupati et al. 2022)."""

    of: Annotated[
        ObjectiveConfig,
        Field(
            description="the objective: a name, or a name with its options, such as {name: sigmoid, scale: 5}; it also "
            "sets the temperature and the bias"
        ),
    ] = ObjectiveConfig()
    dims: Annotated[
        tuple[int, ...], Field(description="the lengths of the prefixes, such as [64, 128, 256]; must be given")
    ] = ()
    weights: Annotated[tuple[float, ...], Field(description="the weight of each prefix; default: all 1")] = ()

    def __post_init__(self) -> None:
        self._check_prefixes()
        for name in ("scale", "bounds", "bias"):
            if getattr(self, name) != getattr(Objective, name):
                raise UserError(f"objective.{name} of matryoshka is that of the objective `of`; set it there")
            object.__setattr__(self, name, getattr(self.base, name))
        base = self.base
        beside = base.columns or base.tokens(("image", "text")) or base.prototypes or base.unnormalised
        if beside or isinstance(base, Matryoshka):
            raise UserError(f"objective.of: `{self.of.name}` cannot be used on prefixes; choose another objective")

    @property
    def base(self) -> Objective:
        return build_objective(self.of)

    @property
    def probabilities(self) -> bool:  # type: ignore[override]  # depends on the objective
        return self.base.probabilities

    @property
    def mixes(self) -> bool:
        return self.base.mixes

    @property
    def references(self) -> tuple[str, ...]:  # type: ignore[override]  # depends on the objective
        return self.base.references

    @property
    def optional_references(self) -> tuple[str, ...]:  # type: ignore[override]  # depends on the objective
        return self.base.optional_references

    @property
    def values(self) -> Sequence[str]:
        return self.base.values

    def check(self, term: TermConfig) -> None:
        self.base.check(term.model_copy(update={"objective": self.of}))

    def check_width(self, term: str, width: int) -> None:
        if max(self.dims) > width:
            raise UserError(
                f"terms.{term}.objective.dims: {max(self.dims)} is more than the {width} dimensions of the joint "
                "space; remove it, or raise model.dim"
            )

    def solve(self, problem: Problem) -> Solution:
        base, whole = self.base, Solution.empty(problem)
        for dim, weight in self._prefixes(problem):
            found = base.solve(prefix(problem, dim))
            for name, rows in every(problem).items():
                found.rows[name] = through_prefix(found.rows[name], rows.z_Ad, dim)
            if dim < max(self.dims):
                found.anchors = []
            whole.add(found, weight)
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        for dim, weight in self._prefixes(problem):
            for item_N, loss_N, share in self.base.losses_of_items(prefix(problem, dim)):
                yield item_N, loss_N, share * weight

    def probability(self, row: Anchors) -> Tensor:
        """That of the longest prefix."""
        return self.base.probability(row)

    def _prefixes(self, problem: Problem) -> Iterator[tuple[int, float]]:
        width = next(iter(problem.fields.values())).z_Nd.shape[1]
        if max(self.dims) > width:
            raise UserError(f"objective.dims: {max(self.dims)} is more than the {width} dimensions of the vectors")
        yield from zip(self.dims, self.weights or (1.0,) * len(self.dims), strict=True)

    def _check_prefixes(self) -> None:
        if not self.dims or min(self.dims) < 1 or len(set(self.dims)) < len(self.dims):
            raise UserError(
                f"objective.dims is {list(self.dims)}; give different numbers of dimensions, such as [64, 128, 256]"
            )
        if self.weights and (len(self.weights) != len(self.dims) or min(self.weights) <= 0):
            raise UserError(
                f"objective.weights is {list(self.weights)}; give {len(self.dims)} numbers above 0, one for each of "
                "`dims`"
            )


def every(problem: Problem) -> Mapping[str, Rows]:
    """All rows of a problem, also the extra negatives."""
    return {**problem.fields, **{name: rows for more in problem.against.values() for name, rows in more.items()}}


def prefix(problem: Problem, dim: int) -> Problem:
    """The same problem on the first dimensions of all rows."""

    def cut(fields: Mapping[str, Rows]) -> dict[str, Rows]:
        return {name: replace(rows, z_Nd=normalize(rows.z_Nd[:, :dim], dim=1)) for name, rows in fields.items()}

    against = {anchor: cut(more) for anchor, more in problem.against.items()}
    return replace(problem, fields=cut(problem.fields), against=against)


def through_prefix(slope_Ae: Tensor, z_Ad: Tensor, dim: int) -> Tensor:
    """The gradient of whole rows from that of their normalised prefixes, which have e dimensions."""
    length_A1 = z_Ad[:, :dim].norm(dim=1, keepdim=True).clamp(min=EPS)
    unit_Ae = z_Ad[:, :dim] / length_A1
    whole_Ad = z_Ad.new_zeros(z_Ad.shape)
    whole_Ad[:, :dim] = (slope_Ae - (slope_Ae * unit_Ae).sum(dim=1, keepdim=True) * unit_Ae) / length_A1
    return whole_Ad
