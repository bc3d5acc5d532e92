"""Long-CLIP: after fine-tuning on long captions, do short texts keep their vectors?

Each run first trains the strong baseline on short captions. Then it stretches the positions of the text tower from 32
to 68, of which the first 20 stay, and fine-tunes on long captions of the same pictures. The cosine is that of the
vectors of held-out captions before and after, of those with at most 20 tokens, so that stretching alone gives 1.

The second arm only stretches. Beside them: long captions alone, without the term of short ones, and with all positions
stretched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.api.data import looked_at
from tercet.api.evaluate import embedded
from tercet.benchmarks.claims.experiment import built_in
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import SECONDS, WORLD, Strong
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.sample import TextIntake
from tercet.eval.config import EvalConfig

SHORT = 20  # tokens
COSINE, LONG = "cosine of short texts", "long captions, image→text R@1"
LONG_TERM: dict[str, Any] = {"between": ["image", "text.long"], "objective": {"name": "infonce", "smoothing": 0.1}}
SHORT_TERM: dict[str, Any] = {
    "between": ["image", "text.short"],
    "objective": {"name": "primary_component", "components": 16, "smoothing": 0.1},
}


@dataclass(frozen=True)
class Lengthened:
    """`steps`: of the baseline. `share`: steps of fine-tuning, of these; 0 only stretches the positions, in one step
    with a learning rate of almost 0. `keep_positions`: those that stay."""

    terms: tuple[Mapping[str, Any], ...] = (LONG_TERM, SHORT_TERM)
    keep_positions: int = 20
    steps: int = 400
    share: float = 0.25
    lr: float = 1e-5

    def run(self, seed: int) -> dict[str, float]:
        data = built_in.generated(WorldConfig.model_validate({**WORLD, "long": 0.0}))
        with TemporaryDirectory() as folder:
            start, end = Path(folder) / "before", Path(folder) / "after"
            Strong(steps=self.steps).train(start, data, seed)
            tuning = Strong(
                {
                    "model": {"text": {"context_length": 68, "keep_positions": self.keep_positions}},
                    "fields": {"text.long": {"from": "json.long"}, "text.short": {"from": "json.long", "sentences": 1}},
                    "terms": list(self.terms),
                },
                steps=max(round(self.share * self.steps), 1),
                lr=self.lr if self.share else 1e-12,
            )
            seconds = tuning.train(end, data, seed, init=start)
            (short_nd, _), (again_nd, recall) = (vectors_and_recall(run, data) for run in (start, end))
        return {COSINE: float((short_nd * again_nd).sum(dim=1).mean()), LONG: recall, SECONDS: seconds}


@torch.no_grad()
def vectors_and_recall(run: Path, data: Path) -> tuple[Tensor, float]:
    """The vectors of the short captions, and how often the long caption of a picture is the most similar one."""
    config = EvalConfig(tasks=("retrieval",), candidates=1_000)
    with embedded(run, looked_at(str(run), {"source": str(data / "val")}), config) as (model, tables):
        (table,) = tables.values()
        samples = [table.samples[item] for item in table.items["image"].tolist()]
        captions = [sample.captions("text")[0] for sample in samples]
        intake = model.towers.tower("text").intake
        assert isinstance(intake, TextIntake)
        count_n = (intake.tokenize(captions) != 0).sum(dim=1).tolist()
        captions = [caption for caption, count in zip(captions, count_n, strict=True) if count <= SHORT]
        short_nd = normalize(model.towers.embed_text(captions), dim=1)
        long_nd = normalize(model.towers.embed_text([str(sample.meta["long"]) for sample in samples]), dim=1)
        found_n = (normalize(table.vectors["image"], dim=1) @ long_nd.T).argmax(dim=1)
    return short_nd, 100 * float((found_n == torch.arange(len(samples))).float().mean())


CLAIM = Claim(
    says="Fine-tuned on long captions as in Long-CLIP, short texts keep their vectors: the cosine is at least 0.99.",
    source="Zhang et al. 2024",
    measure=COSINE,
    arms={
        "Long-CLIP": Lengthened(),
        "stretched only": Lengthened(share=0.0),
        "long captions alone": Lengthened(terms=(LONG_TERM,)),
        "all positions stretched": Lengthened(keep_positions=0),
    },
    gain=(-0.01, None),
)
