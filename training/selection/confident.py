"""Samples that a helper model is sure of and the learner is not: what a small model finds worth learning.

A helper knows which pairs fit, at least for easy ones. Samples that it is sure of are rarely mislabelled; those of them
with a high loss are what the learner still lacks. So this avoids what `loss` alone prefers: pairs that do not fit. The
helper is a memory of the kind `teacher`, which may also give soft labels (the objective `soft`), as in work on small
models that help large ones to train (Rawat et al. 2024).

Shape letters: n samples of this rank, A anchors, K keys.
"""

import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Known, Terms
from tercet.training.config import RunConfig
from tercet.training.loop.flops import Flops, rows_of
from tercet.training.memory.names import fields_read
from tercet.training.selection.rule import SelectionRule, SuperBatch, selection_rule

UNSURE = -100.0  # below any loss: samples that the helper is not sure of come last, by its confidence


@selection_rule("confident")
class ConfidentSelection(SelectionRule):
    """Selects the samples with the learner's highest loss, of those whose own pair a helper gives at least the
    probability `confidence` among all drawn pairs. If these are too few, the helper's confidence decides."""

    helper: str
    confidence: float = 0.5
    temperature: float = 0.01

    def __post_init__(self) -> None:
        for name, fine in (("confidence", 0 <= self.confidence <= 1), ("temperature", self.temperature > 0)):
            if not fine:
                given = getattr(self, name)
                needed = "between 0 and 1" if name == "confidence" else "above 0"
                raise UserError(f"selection.{name} is {given:g}; give a number {needed}")

    def check(self, run: RunConfig) -> None:
        read = fields_read(self.helper, run.all_memories, run.terms)
        if not any(len(term.between) == 2 and read.issuperset(term.between) for term in run.terms):
            raise UserError(self._missing)

    def flops_of_scoring(self, drawn: SuperBatch, learner: Flops) -> int:
        """Those of the learner. The helper is a memory, whose FLOPs are not counted."""
        return learner.scoring(rows_of(drawn.batch))

    def scores(self, drawn: SuperBatch) -> Tensor:
        learner, own = drawn.learner, drawn.places
        known = learner.memories.known(drawn.batch)
        vectors, temperatures = learner.embed(drawn.batch)
        loss_N = learner.terms.item_losses(drawn.batch, vectors, temperatures, learner.world, known, drawn.step)
        loss_n = loss_N[own.start : own.stop].double()
        sure_n = self.certainty(known, learner.terms, own)
        return torch.where((sure_n >= self.confidence) | loss_n.isnan(), loss_n, UNSURE + sure_n)

    def certainty(self, known: Known, terms: Terms, own: range) -> Tensor:
        """The helper's probability of each own pair, the mean of both directions. 0 for a sample without the pair."""
        one, other = (known.frozen[f"{self.helper}.{field}"] for field in self._fields(known, terms))
        sure_n = torch.zeros(len(own), dtype=torch.float64, device=one.z_Nd.device)
        for anchors, keys in ((one, other), (other, one)):
            for rows in torch.split(torch.arange(len(anchors), device=sure_n.device), terms.tile):
                rows = rows[(anchors.item_N[rows] >= own.start) & (anchors.item_N[rows] < own.stop)]
                sure_n[anchors.item_N[rows] - own.start] += self._probability(anchors, keys, rows) / 2
        return sure_n

    def _probability(self, anchors: Rows, keys: Rows, rows: Tensor) -> Tensor:
        """Of the keys of the anchor's item, among all keys but those of other items of its group."""
        logit_AK = anchors.z_Nd[rows].double() @ keys.z_Nd.T.double() / self.temperature
        own_AK = anchors.item_N[rows][:, None] == keys.item_N
        logit_AK = logit_AK.masked_fill((anchors.group_N[rows][:, None] == keys.group_N) & ~own_AK, -torch.inf)
        total_A = logit_AK.logsumexp(dim=1)
        own_A = logit_AK.masked_fill(~own_AK, -torch.inf).logsumexp(dim=1)
        return (own_A - total_A).exp().nan_to_num(0.0)

    def _fields(self, known: Known, terms: Terms) -> tuple[str, str]:
        """The fields of the first term of two fields of which the helper has both vectors, a row each."""
        for term in terms.configs:
            embedded = all(f"{self.helper}.{name}" in known.frozen for name in term.between)
            if embedded and len(term.between) == 2 and all(terms.counts.get(name, 1) == 1 for name in term.between):
                return term.between[0], term.between[1]
        raise UserError(self._missing)

    @property
    def _missing(self) -> str:
        return (
            f"selection.helper: no memory `{self.helper}` embeds both fields of a term. Add memories={{{self.helper}: "
            f"{{kind: teacher, model: …}}}}, and a term that uses it, as references: {{teacher: {self.helper}}}"
        )
