"""What a joint selection compares: the vectors that learner and reference give to the samples of a super-batch.

A term of the loss is scored by its two fields. A term of more fields is scored by each two of them. Extra negatives do
not count. Where a term names vectors of a memory, such as a momentum encoder, the model's own are compared instead. A
term that only compares a field with a memory's vectors of the same field is not scored, and neither is one with a
projector, which a reference lacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.modality import field_behind
from tercet.models.losses import build_objective
from tercet.models.losses.sigmoid import Sigmoid as SigmoidObjective
from tercet.models.term_config import TermConfig
from tercet.training.selection.calibration import calibrated
from tercet.training.selection.candidates import ItemVectors, PairViews, Temperature, View, Views
from tercet.training.selection.pair_losses import Kind, PairLoss, Sigmoid, SigmoidGradient, Softmax, SoftmaxGradient
from tercet.training.selection.reference import Reference
from tercet.training.selection.rule import SuperBatch

Criterion = Literal["learnability", "easy_reference", "hard_learner", "gradient_norm"]
ReferenceScale = Annotated[float, Field(gt=0)] | Literal["own", "learner", "calibrated"]
LOSSES: dict[Kind, PairLoss] = {"softmax": Softmax(), "sigmoid": Sigmoid()}
GRADIENTS: dict[Kind, PairLoss] = {"softmax": SoftmaxGradient(), "sigmoid": SigmoidGradient()}


@dataclass(frozen=True)
class FieldPair:
    """Two fields of a term, with the loss by which they are compared."""

    name: str
    x: str
    y: str
    term: TermConfig
    kind: Kind
    share: float  # of the term's weight


def field_pairs(terms: Sequence[TermConfig], kind: Kind | None) -> list[FieldPair]:
    """The pairs of fields that the terms compare. Each has the loss of its objective, unless `kind` is given."""
    found = []
    for term in terms:
        if term.projector:
            continue
        if term.sums:
            raise UserError(f"terms.{term.name}.sums: a joint selection compares single fields; remove it")
        both = list(combinations(dict.fromkeys(map(field_behind, term.between)), 2))
        for x, y in both:
            name = term.name if len(both) == 1 else f"{x}-{y}"
            found.append(FieldPair(name, x, y, term, kind or kind_of(term), 1 / len(both)))
    return found


def kind_of(term: TermConfig) -> Kind:
    return "sigmoid" if isinstance(build_objective(term.objective), SigmoidObjective) else "softmax"


@dataclass(frozen=True)
class Comparison:
    """Scores by a criterion. `reference` is None if the criterion needs none."""

    criterion: Criterion
    pairs: Sequence[FieldPair]
    reference: Reference | None
    reference_scale: ReferenceScale

    def __call__(self, drawn: SuperBatch) -> Views:
        """How the models see the super-batch. A collective."""
        learner, batch, world = drawn.learner, drawn.batch, drawn.learner.world
        vectors, temperatures = learner.embed(batch)
        seen = self._gather(drawn, vectors)
        known = self._gather(drawn, self.reference.vectors(batch)) if self.reference else {}
        group_N, compared = world.gather(batch.groups), []
        for pair in self.pairs:
            loss = (GRADIENTS if self.criterion == "gradient_norm" else LOSSES)[pair.kind]
            has_N = seen[pair.x].has_N & seen[pair.y].has_N
            scale, bias = temperatures[pair.term.name]
            learned = Temperature.of(pair.kind, scale, bias)
            views = []
            if self.criterion != "easy_reference":
                views.append(View(seen[pair.x].z_Nd, seen[pair.y].z_Nd, learned, loss, 1.0))
            if known:
                x_Nd, y_Nd = known[pair.x].z_Nd, known[pair.y].z_Nd
                views.append(View(x_Nd, y_Nd, self._temperature(pair, learned, x_Nd, y_Nd, has_N, group_N), loss, -1.0))
            weight = learner.terms.weight(pair.term, drawn.step) * pair.share
            compared.append(PairViews(pair.name, has_N, weight, tuple(views)))
        own = slice(drawn.places.start, drawn.places.stop)
        return Views(compared, group_N, own, learner.terms.tile)

    def _gather(self, drawn: SuperBatch, vectors: Mapping[str, Tensor]) -> dict[str, ItemVectors]:
        batch, world = drawn.batch, drawn.learner.world
        names = dict.fromkeys(name for pair in self.pairs for name in (pair.x, pair.y))
        return {name: ItemVectors.gather(vectors[name], batch.fields[name], len(batch), world) for name in names}

    def _temperature(
        self, pair: FieldPair, learned: Temperature, x_Nd: Tensor, y_Nd: Tensor, has_N: Tensor, group_N: Tensor
    ) -> Temperature:
        """The temperature of the reference."""
        if self.reference_scale == "learner":
            return learned
        if self.reference_scale == "own":
            assert self.reference is not None
            return self.reference.temperature(pair.x, pair.y, pair.kind)
        if self.reference_scale == "calibrated":
            return calibrated(pair.kind, x_Nd, y_Nd, has_N, group_N)
        return replace(learned, scale=self.reference_scale)
