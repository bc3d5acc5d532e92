"""All terms of a step. The vectors of each field are gathered once, and each row gets one gradient over all terms.

Vectors that went through a projector are gathered beside those of the joint space, also once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.modality import field_behind, field_of, is_negative, projector_of, tokens_of, unnormalised_of
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.objective import Objective, build_term, objective_class
from tercet.models.losses.problem import LABEL, Problem, Prototypes, Update
from tercet.models.losses.rows import Rows
from tercet.models.losses.sums import summed, through_sums
from tercet.models.term_config import TermConfig

Temperatures = Mapping[str, tuple[Tensor, Tensor | None]]  # scale and bias by term
Lookup = Callable[[str, Tensor], Mapping[str, Tensor]]  # the values that the memory of a term has of some samples
Clusters = Callable[[str, str, Rows], tuple[Prototypes, Tensor] | None]  # see `Known.prototypes`


@dataclass(frozen=True)
class Outcome:
    """The losses over all ranks, and the gradients of their weighted sum: own rows by field, scale and bias by term.

    `gathered` has the vectors of all ranks by field, or this rank's where a projector `stays_apart`, and `frozen`
    those that memories offered. Tokens are padded to the longest row of all ranks. By term,
    `anchors` has the results of the anchors of each direction, `updates` the new values of samples for its memory,
    `averages` the new moving averages, and `measures` numbers for the metrics. `progress` is the share of the stage's
    steps that were done before.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    rows: dict[str, Tensor]
    temperatures: dict[str, tuple[Tensor, Tensor]]
    gathered: dict[str, Rows]
    anchors: dict[str, list[Anchors]]
    updates: dict[str, list[Update]]
    averages: dict[str, dict[str, Tensor]]
    frozen: Mapping[str, Rows]
    measures: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    progress: float = 0.0


def stays_apart(terms: Sequence[TermConfig]) -> set[str]:
    """The projectors whose output every rank keeps for itself, because no term compares rows of different items."""
    gathered = {term.projector_name for term in terms if objective_class(term.objective.name).gathered}
    return {term.projector_name for term in terms} - gathered - {""}


def own_rows(batch: Batch, name: str, z_nd: Tensor, world: World) -> Rows:
    """The rows of this rank alone."""
    item_n = batch.fields[field_of(name)].item
    own = slice(0, len(z_nd))
    return Rows(z_nd, own, item_n + world.rank * len(batch), batch.groups[item_n], batch.ids[item_n])


def gather(batch: Batch, name: str, z_nd: Tensor, rows: int, world: World) -> Rows:
    """Gathers the vectors or tokens of a field. All ranks have the same number of items, so each pads the field to
    `rows` per item."""
    capacity, field = len(batch) * rows, batch.fields[field_of(name)]
    longest = z_nd.shape[1] if z_nd.ndim == 2 else world.max(z_nd.shape[1])
    z_bd = z_nd.new_zeros(capacity, longest, *z_nd.shape[2:])
    z_bd[: len(z_nd), : z_nd.shape[1]] = z_nd
    mark_b3 = torch.full((capacity, 3), -1, dtype=torch.int64, device=z_nd.device)
    mark_b3[: len(z_nd), 0] = field.item + world.rank * len(batch)
    mark_b3[: len(z_nd), 1] = batch.groups[field.item]
    mark_b3[: len(z_nd), 2] = batch.ids[field.item]
    own = slice(world.rank * capacity, (world.rank + 1) * capacity)
    z_Nd, mark_N3 = world.gather(z_bd), world.gather(mark_b3)
    extra = {}
    numbers = {key: value_b[field.item] for key, value_b in batch.values.items()}
    for key, value_n in (numbers if field.number is None else {**numbers, "number": field.number}).items():
        padded_b = z_nd.new_zeros(capacity)
        padded_b[: len(z_nd)] = value_n.to(z_nd)
        extra[key] = world.gather(padded_b)
    item_N, group_N, id_N = mark_N3.T.contiguous()
    return Rows(z_Nd, own, item_N, group_N, id_N, extra=extra).pick(item_N >= 0)


@dataclass(frozen=True)
class Known:
    """What the terms of a step may use beside the batch: frozen vectors by name, values of samples, and the
    moving averages of terms.

    `prototypes(memory, field, rows)` returns the prototypes that rows of the field are compared with, and the cluster
    of each of these rows, −1 if it has none. It returns None before the first clustering.
    """

    frozen: Mapping[str, Rows] = field(default_factory=dict)
    lookup: Lookup = lambda term, id_N: {}
    averages: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    prototypes: Clusters = lambda memory, field, rows: None


class Terms:
    """The terms that a step trains.

    `counts`: how many rows of a field an item may have, if more than one. `steps`: those of the stage, for weights that
    change. `paired`: which fields have rows that belong to the rows of another field, number by number.
    """

    def __init__(
        self,
        configs: Sequence[TermConfig],
        tile: int,
        counts: Mapping[str, int] | None = None,
        steps: range = range(1),
        seed: int = 0,
        paired: Mapping[str, str] | None = None,
    ) -> None:
        self.configs, self.tile, self.counts = tuple(configs), tile, counts or {}
        self.steps, self.seed, self.paired = steps, seed, paired or {}
        self.objectives: dict[str, Objective] = {term.name: build_term(term) for term in configs}
        self.apart = stays_apart(configs)

    @torch.no_grad()
    def __call__(
        self,
        batch: Batch,
        vectors: Mapping[str, Tensor],
        temperatures: Temperatures,
        world: World,
        known: Known | None = None,
        step: int = 0,
    ) -> Outcome:
        """`vectors` has the existing rows of each field, and its tokens if terms use them. Frozen rows get no gradient,
        such as those of a queue."""
        fields, known = self._gather(batch, vectors, world), known or Known()
        gradients = {name: torch.zeros_like(rows.z_Ad) for name, rows in fields.items()}
        zero, progress = torch.zeros((), device=world.device), self.progress(step)
        outcome = Outcome(zero, {}, gradients, {}, fields, {}, {}, {}, known.frozen, progress=progress)
        total = []
        for term in self.configs:
            problem = self._problem(term, fields, temperatures, world, known, step)
            found = self.objectives[term.name].solve(problem)
            found.rows = self._through_sums(term, fields, found.rows)
            weight = self.weight(term, step)
            for name, slope_Ad in found.rows.items():
                if term.vectors_of(name) in gradients:
                    gradients[term.vectors_of(name)] += weight * slope_Ad
            outcome.losses[term.name] = found.loss
            outcome.temperatures[term.name] = weight * found.scale, weight * found.bias
            outcome.anchors[term.name] = found.anchors
            outcome.updates[term.name], outcome.averages[term.name] = found.updates, found.averages
            outcome.measures[term.name] = found.measures
            total.append(weight * found.loss)
        return replace(outcome, loss=torch.stack(total).sum())

    @torch.no_grad()
    def item_losses(
        self,
        batch: Batch,
        vectors: Mapping[str, Tensor],
        temperatures: Temperatures,
        world: World,
        known: Known | None = None,
        step: int = 0,
    ) -> Tensor:
        """The loss of every item over all ranks `[B · ranks]`: the weighted mean over the terms that include it.

        Computes no gradients. The loss of an item in no term is NaN.
        """
        fields = self._gather(batch, vectors, world)
        losses_B = torch.zeros(len(batch) * world.size, device=world.device)
        weights_B = torch.zeros_like(losses_B)
        for term in self.configs:
            problem = self._problem(term, fields, temperatures, world, known or Known(), step)
            for item_N, loss_N, share in self.objectives[term.name].losses_of_items(problem):
                weight = self.weight(term, step) * share
                losses_B[item_N] += weight * loss_N.to(losses_B)
                weights_B[item_N] += weight
        return losses_B / weights_B

    def weight(self, term: TermConfig, step: int) -> float:
        """The weight of a term at a step of the run."""
        return term.weight_at(self.progress(step))

    def progress(self, step: int) -> float:
        """The share of the stage's steps that are done before a step of the run."""
        return (step - self.steps.start) / len(self.steps)

    def _gather(self, batch: Batch, vectors: Mapping[str, Tensor], world: World) -> dict[str, Rows]:
        rows = {name: self.counts.get(field_of(name), 1) for name in vectors}
        return {
            name: own_rows(batch, name, z_nd, world)
            if projector_of(name) in self.apart
            else gather(batch, name, z_nd, rows[name], world)
            for name, z_nd in vectors.items()
        }

    def _problem(
        self,
        term: TermConfig,
        fields: Mapping[str, Rows],
        temperatures: Temperatures,
        world: World,
        known: Known,
        step: int,
    ) -> Problem:
        every, objective = {**known.frozen, **fields}, self.objectives[term.name]
        rows = {name: self._with_extra(term, name, every[term.vectors_of(name)], known) for name in term.between}
        prototypes = {}
        for name, weights in term.sums.items():
            rows[name] = summed(rows[name], weights, fields)
        for name in term.between if term.prototypes else ():
            found = known.prototypes(term.prototypes, name, rows[name])
            if found is not None:
                prototypes[name], label_N = found
                rows[name] = replace(rows[name], extra={**rows[name].extra, LABEL: label_N})
        return Problem(
            rows,
            *temperatures[term.name],
            self.tile,
            world,
            against={
                anchor: {
                    name: self._extra_negatives(term, anchor, name, every[term.vectors_of(name)], known)
                    for name in names
                }
                for anchor, names in term.against.items()
            },
            shares=term.shares,
            counts={**self.counts, **{name: self.counts.get(field_behind(name), 1) for name in term.between}},
            paired=self.paired,
            averages=known.averages.get(term.name) or self._first(term, world),
            seed=self.seed + step,
            tokens={name: every[term.vectors_of(tokens_of(name))] for name in objective.tokens(term.between)},
            unnormalised={name: fields[unnormalised_of(name)] for name in term.between if objective.unnormalised},
            prototypes=prototypes,
            progress=self.progress(step),
            references=tuple(sorted(term.references)),
        )

    def _through_sums(
        self, term: TermConfig, fields: Mapping[str, Rows], slopes: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The gradients by field, where those of sides that are sums go to the fields of these."""
        found = dict(slopes)
        for name, weights in term.sums.items():
            for part, slope_Ad in through_sums(fields[name], weights, fields, found.pop(name)).items():
                found[part] = found[part] + slope_Ad if part in found else slope_Ad
        return found

    def _extra_negatives(self, term: TermConfig, anchor: str, name: str, rows: Rows, known: Known) -> Rows:
        """Rows that are positives of no anchor. Wrong captions are declared to be wrong about their item, and right
        ones about its wrong picture. All others have their clusters, those of the anchor's field."""
        negatives = rows.negatives(declared=is_negative(name) != is_negative(anchor))
        if negatives.declared or not (term.prototypes and len(rows)):
            return negatives
        found = known.prototypes(term.prototypes, anchor, rows)
        return negatives if found is None else replace(negatives, extra={**rows.extra, LABEL: found[1]})

    def _first(self, term: TermConfig, world: World) -> dict[str, Tensor]:
        """The moving averages of a term before its first step."""
        averages = self.objectives[term.name].averages
        return {name: torch.tensor(value, device=world.device) for name, value in averages.items()}

    def _with_extra(self, term: TermConfig, name: str, rows: Rows, known: Known) -> Rows:
        """Adds the vectors that the term refers to, and the values that its memory keeps of the samples.

        A momentum encoder has a copy of the projector. A teacher has none, so its vectors are taken as they are.
        """
        extra = {}
        for key, prefix in term.references.items():
            plain = f"{prefix}.{field_behind(name)}"
            own = term.vectors_of(plain)
            extra[key] = known.frozen[own if own in known.frozen else plain].z_Nd
        columns = self.objectives[term.name].columns
        if columns:
            values = known.lookup(term.name, rows.id_N)
            extra |= {column: values[f"{name}.{column}"] for column in columns}
        return replace(rows, extra={**rows.extra, **extra})
