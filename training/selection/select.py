"""The selection of a stage: takes a super-batch, returns the batch that the step trains on, and records it."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from tercet.configs.registry import build_named
from tercet.data_pipelines.sample import Batch
from tercet.errors import RankError
from tercet.models.losses.terms import gather
from tercet.training.loop.flops import Flops, rows_of
from tercet.training.loop.stage import Chosen
from tercet.training.loop.step import Step
from tercet.training.memory.memory import StageContext
from tercet.training.selection import baselines, confident, jest, replay  # noqa: F401  # importing registers their rules
from tercet.training.selection.config import SelectionConfig
from tercet.training.selection.examples import EXAMPLES, due, note_examples
from tercet.training.selection.exchange import exchange
from tercet.training.selection.measures import costs, measures
from tercet.training.selection.record import SELECTED, Selected
from tercet.training.selection.rule import SelectionRule, SuperBatch, rules
from tercet.training.selection.strata import Kept, Strata, WholeBatch

MEMORY = "selection-reference"  # in checkpoints; names in recipes have no hyphen


def build_rule(config: SelectionConfig) -> SelectionRule:
    return build_named(rules, config.name, config.model_extra or {}, SelectionConfig.model_fields)


def check_rule(name: str) -> None:
    """Raises `UserError` if no rule has this name."""
    rules.get(name)


class Selection:
    """Applies the selection rule of a stage. Rules that need no more than their options work without a `context`. With
    the FLOPs of the learner, counts those of selection and training. `again` decodes the pictures of the kept samples
    at the size that a step trains on, if those of the super-batch are smaller."""

    def __init__(
        self,
        config: SelectionConfig,
        batch_size: int,
        learner: Step,
        folder: Path,
        context: StageContext | None = None,
        flops: Flops | None = None,
        again: Callable[[Batch], Batch] | None = None,
    ) -> None:
        processes = learner.world.size
        count = config.strata_on(batch_size, processes)
        self.count, self.share = count, batch_size // processes
        self.strata = Strata(count, self.share // count)
        if not config.balanced:
            self.strata = WholeBatch(1, batch_size, learner.world)
        self.balanced = config.balanced
        rule = build_rule(config)
        self.rule = rule if context is None else rule.begin(context)
        self.name, self.learner, self.bad, self.flops = config.name, learner, config.bad, flops
        self.again, self.folder = again, folder if config.record else None

    def __call__(self, drawn: Batch, step: int) -> Chosen:
        """The samples of the super-batch that step number `step` trains on. Their order stays. A collective."""
        start = time.perf_counter()
        self.learner.memories.leave_out({})  # the rule compares all samples, and no vectors of the last step
        given = SuperBatch(drawn, step, self.strata, self.learner)
        kept = self.rule.choose(given)
        self._check(kept)
        if self.folder:
            self._write(self.folder / SELECTED, drawn, step, kept)
            self._note(self.folder / EXAMPLES, given, kept)
        place_k, batch = kept.places + given.places.start, drawn.items(kept.places)
        if self.again:
            batch = self.again(batch)
        if not self.balanced:
            batch, place_k = exchange(batch, place_k, self.share, self.learner.world)
        batch = self.learner.scoring.mix(batch, self.learner.seed, step, place_k.tolist(), self.count)
        found = measures(given, kept, self.bad)
        left = self._leave_out(drawn, kept)
        if self.flops:
            again = self.flops.scoring(rows_of(left)) if left else 0
            found |= costs(given, batch, self.flops, self.rule.flops_of_scoring(given, self.flops) + again)
        return Chosen(batch, {**found, "seconds": time.perf_counter() - start})

    def _check(self, kept: Kept) -> None:
        found, share = len(kept.places), self.share
        if not self.balanced:
            world = self.learner.world
            found, share = int(world.sum(torch.tensor(found, device=world.device))), self.share * world.size
        if found != share:
            of = "a process" if self.balanced else "all processes"
            raise RankError(f"the selection rule `{self.name}` kept {found} samples of {of}, not {share}")

    def _note(self, path: Path, drawn: SuperBatch, kept: Kept) -> None:
        """Records examples for the report, if the rule has scores and this step is due."""
        if kept.scores is not None and self.learner.world.first and due(drawn.step, self.learner.terms.steps):
            note_examples(path, drawn, kept, self.bad)

    def _leave_out(self, drawn: Batch, kept: Kept) -> Batch | None:
        """Embeds the other samples for the memories that need their vectors. Returns these samples."""
        fields, learner = self.learner.memories.fields_left_out, self.learner
        if not fields or self.share == len(drawn):
            return None
        others_n = torch.ones(len(drawn), dtype=torch.bool, device=drawn.ids.device).index_fill_(0, kept.places, False)
        place_m = torch.nonzero(others_n).flatten()
        left = drawn.items(place_m)
        if not self.balanced:
            left, _ = exchange(left, place_m, len(drawn) - self.share, learner.world)
        vectors, counts = learner.embed(left)[0], learner.terms.counts
        rows = {name: gather(left, name, vectors[name], counts.get(name, 1), learner.world) for name in fields}
        learner.memories.leave_out(rows)
        return left

    def _write(self, path: Path, drawn: Batch, step: int, kept: Kept) -> None:
        world = self.learner.world
        is_kept_n = torch.zeros_like(drawn.ids).index_fill_(0, kept.places, 1)
        is_kept_N, id_N = world.gather(torch.stack([is_kept_n, drawn.ids], dim=1)).cpu().numpy().T
        near_ties = int(world.sum(torch.tensor(kept.near_ties, device=world.device)))
        if world.first:
            Selected.of(step + 1, near_ties, is_kept_N.astype(bool), id_N).append_to(path)
