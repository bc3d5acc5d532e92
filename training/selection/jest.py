"""Joint example selection (JEST, Evans et al. 2024): chooses a batch that is worth learning from as a whole.

A sample is worth learning if the learner has a high loss on it, and a fixed reference model that was trained on good
data has a low one: it can be learned, and is not yet. Both have a high loss on a wrong caption. The loss of a pair
depends on the other pairs of its batch, so a batch is chosen in chunks, each given the chunks before.

Where this differs from the paper: each stratum of the super-batch contributes the same number of samples, so that the
selection does not depend on the number of processes. There are other losses and criteria than the sigmoid loss and
learnability. The result depends on how sharply scores are followed and on the reference's temperature, so both are
options.
"""

from collections.abc import Collection
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.models.losses import build_objective
from tercet.training.config import RunConfig
from tercet.training.loop.flops import Flops, rows_of
from tercet.training.memory.memory import Memory, StageContext
from tercet.training.memory.teacher import check_model
from tercet.training.selection.candidates import Candidates, Views
from tercet.training.selection.chunks import ChunkSampler, gumbel
from tercet.training.selection.compare import Comparison, Criterion, ReferenceScale, field_pairs
from tercet.training.selection.pair_losses import Kind
from tercet.training.selection.reference import Reference, ReferenceModel
from tercet.training.selection.reference_column import ColumnReference, check_vectors
from tercet.training.selection.rule import SelectionRule, SuperBatch, selection_rule
from tercet.training.selection.strata import Kept
from tercet.training.selection.swaps import Swapper

ROUNDING = 1e-6  # of a cosine, between numbers of processes
WITH_REFERENCE = ("learnability", "easy_reference")


@selection_rule("jest")
class JestSelection(SelectionRule):
    """Selects the samples that are worth learning together (JEST, Evans et al. 2024)."""

    reference: Annotated[
        str | None,
        Field(
            description="the MODEL that knows good data: a run, an exported folder, open_clip:NAME/TAG, "
            "open_clip:NAME/FILE, laion_clap:FILE or hf:FOLDER. It must take pictures of the same size, captions of "
            "the same tokenizer and sounds of the same rate as the run's"
        ),
    ] = None
    reference_vectors: Annotated[
        str | None,
        Field(
            description="a folder that `tercet embed REFERENCE --data D --format column` wrote: read the vectors of "
            "the reference from it, instead of running the model. Fields that the folder lacks need `reference`, too"
        ),
    ] = None
    criterion: Annotated[
        Criterion,
        Field(
            description="what makes a sample worth learning. learnability: the learner's loss minus the reference's; "
            "easy_reference: a low loss of the reference; hard_learner: a high loss of the learner; gradient_norm: a "
            "high bound of the gradient of the learner's loss. The last two use no reference"
        ),
    ] = "learnability"
    method: Annotated[
        Literal["joint", "independent"],
        Field(
            description="joint: choose the batch in chunks, and score each sample against those chosen before; "
            "independent: score each sample once, against all drawn samples"
        ),
    ] = "joint"
    n_chunks: Annotated[
        int, Field(gt=0, description="joint only: how many chunks a batch is chosen in; batch_size at most")
    ] = 16
    sample: Annotated[
        Literal["gumbel", "topk"],
        Field(description="gumbel: draw samples with probabilities ∝ exp(gain · score); topk: take the highest scores"),
    ] = "gumbel"
    gain: Annotated[
        float, Field(gt=0, description="gumbel only: how sharply the scores are followed; a high gain is like topk")
    ] = 4.0
    sweeps: Annotated[
        int, Field(ge=0, description="joint only: how often the chosen batch is refined after it was drawn")
    ] = 0
    refine: Annotated[
        Literal["swap", "gibbs"],
        Field(
            description="what a sweep does. swap: replace chosen samples by better ones of their stratum, if that "
            "raises the score of the whole batch; gibbs: draw every chunk again, given all others"
        ),
    ] = "swap"
    reference_scale: Annotated[
        ReferenceScale,
        Field(
            description="the inverse temperature of the reference's logits. own: the one that it was trained with; "
            "learner: that of the learner at this step; calibrated: the one that fits the drawn "
            "samples best, wrong pairs aside; or a number"
        ),
    ] = "calibrated"
    pair_loss: Annotated[
        Kind | None,
        Field(description="the loss that scores pairs: softmax or sigmoid; default: that of each term's objective"),
    ] = None

    def check(self, run: RunConfig) -> None:
        if self.sweeps and (self.method == "independent" or (self.refine == "gibbs" and self.n_chunks == 1)):
            lacks = "method: joint" if self.method == "independent" else "n_chunks of 2 or more"
            raise UserError(f"selection.sweeps: these sweeps need {lacks}; set that, or sweeps to 0")
        if self.sweeps and self.refine == "swap" and run.selection and not run.selection.balanced:
            raise UserError("selection.balanced: swaps stay within strata; set balanced to true, or refine to gibbs")
        if self.method == "joint" and self.n_chunks > run.batch_size:
            raise UserError(
                f"selection.n_chunks is {self.n_chunks}, more than the {run.batch_size} samples that a step keeps; set "
                f"it to {run.batch_size} or less"
            )
        pairs = field_pairs(run.terms, self.pair_loss)
        if not pairs:
            raise UserError("selection.name: `jest` scores pairs of two fields, but no term compares two; add one")
        for pair in pairs:
            if pair.kind == "sigmoid" and build_objective(pair.term.objective).bias is None:
                raise UserError(
                    f"selection.pair_loss: `sigmoid` needs a bias, and the objective of `{pair.name}` has none; set "
                    "objective.bias, such as -10, or pair_loss to softmax"
                )
        if self.criterion not in WITH_REFERENCE:
            return
        if self.reference_vectors is not None:
            check_vectors(self.reference_vectors, run)
        if self.reference is None and self.reference_vectors is None:
            raise UserError(
                f"selection.reference is missing: `{self.criterion}` needs a model that knows good data. Name one, "
                "such as runs/reference, or set selection.criterion to hard_learner"
            )
        if self.reference is not None:
            check_model("selection.reference", self.reference)

    def begin(self, context: StageContext) -> "SelectionRule":
        pairs = field_pairs(context.config.terms, self.pair_loss)
        fields = tuple(dict.fromkeys(name for pair in pairs for name in (pair.x, pair.y)))
        reference = self._reference(fields, context) if self.criterion in WITH_REFERENCE else None
        if reference and self.reference_scale == "own":
            for pair in pairs:
                reference.temperature(pair.x, pair.y, pair.kind)
        return JointSelection(self, Comparison(self.criterion, pairs, reference, self.reference_scale), context)

    def _reference(self, fields: Collection[str], context: StageContext) -> Reference | None:
        if self.reference_vectors is not None:
            return ColumnReference(self.reference_vectors, self.reference, fields, context)
        return None if self.reference is None else ReferenceModel(self.reference, fields, context)


class JointSelection(SelectionRule):
    """The rule `jest` in a stage."""

    def __init__(self, options: JestSelection, compare: Comparison, context: StageContext) -> None:
        self.options, self.compare, self.every = options, compare, context.config.log.every

    @property
    def memory(self) -> Memory | None:
        return self.compare.reference.memory if self.compare.reference else None

    def choose(self, drawn: SuperBatch) -> Kept:
        views, options, world = self.compare(drawn), self.options, drawn.learner.world
        chunks = options.n_chunks if options.method == "joint" else 1
        gain = options.gain if options.sample == "gumbel" else 1.0
        candidates = Candidates(views, chunks)
        sampler = ChunkSampler(candidates, drawn.strata, world, chunks, gain, gain * views.scale * ROUNDING)
        if options.method == "independent":
            sampler.draw_chunk(0, views.independent(), self._noise(drawn, chunks))
        else:
            sampler.draw(self._noise(drawn, chunks))
        if options.refine == "gibbs":
            for sweep in range(1, options.sweeps + 1):
                sampler.redraw(self._noise(drawn, chunks, sweep))
        chosen_n, near_ties = sampler.chunk_n >= 0, sampler.near_ties
        if options.refine == "swap" and options.sweeps:
            swapper = Swapper(views, drawn.strata, world, chosen_n, views.scale * ROUNDING)
            for _ in range(options.sweeps):
                swapper.sweep()
            candidates, chosen_n, near_ties = swapper.candidates, swapper.chosen_n, near_ties + swapper.near_ties
        measures = self._measures(drawn, views, chosen_n, near_ties)
        places = torch.nonzero(chosen_n).flatten()
        return Kept(places, near_ties, measures, candidates.scores(), options.criterion)

    def flops_of_scoring(self, drawn: SuperBatch, learner: Flops) -> int:
        reference, rows = self.compare.reference, rows_of(drawn.batch)
        return learner.scoring(rows) + (reference.flops.scoring(rows) if reference else 0)

    def _noise(self, drawn: SuperBatch, chunks: int, sweep: int = 0) -> Tensor:
        if self.options.sample == "topk":
            return torch.zeros(len(drawn.batch), chunks, dtype=torch.float64, device=drawn.batch.ids.device)
        purpose = f"jest sweep {sweep}" if sweep else "jest"
        return gumbel(purpose, drawn.learner.seed, drawn.step, drawn.places, chunks).to(drawn.batch.ids.device)

    def _measures(self, drawn: SuperBatch, views: Views, chosen_n: Tensor, near_ties: int) -> dict[str, float]:
        """The reference's scales. When loggers log, also the share of the samples that an independent selection of the
        highest scores would choose, too."""
        counts = [torch.tensor(near_ties, device=chosen_n.device), chosen_n.sum()]
        due = drawn.step == 0 or (drawn.step + 1) % self.every == 0
        if due:
            counts.append(chosen_n[drawn.strata.best(views.independent()).places].sum())
        near_ties, kept, *shared = drawn.learner.world.sum(torch.stack(counts)).tolist()
        scales = {pair.name: view.scale for pair in views.pairs for view in pair.views if view.weight < 0}
        found = {"near_ties": near_ties} | {f"reference_scale/{name}": scale for name, scale in scales.items()}
        return found | ({"overlap_independent": shared[0] / kept} if due else {})
