"""Opens the data, the model and the cache, and writes the sidecar."""

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import write_rows
from tercet.data_pipelines.captions.templates import SLOT
from tercet.data_pipelines.manifests.reading import Reading
from tercet.data_pipelines.rewrite.cache import AnswerCache
from tercet.data_pipelines.rewrite.captioned import CaptionedSamples
from tercet.data_pipelines.rewrite.config import RewriteConfig
from tercet.data_pipelines.rewrite.open_model import RULES, open_model
from tercet.data_pipelines.rewrite.rewrite import Counts, Rewriting, by_rule
from tercet.data_pipelines.rewrite.show import watched
from tercet.data_pipelines.rewrite.tasks import task_of
from tercet.data_pipelines.sources.open import open_source


@dataclass(frozen=True)
class Rewritten:
    """`without`: samples that have no captions."""

    counts: Counts
    without: int

    def to_json(self) -> dict[str, object]:
        return {**asdict(self.counts), "without": self.without}


def rewrite(by: str, data: str, reading: Reading, config: RewriteConfig, out: Path) -> Rewritten:
    """`by`: `rules`, the URL of an endpoint, or the folder of a model."""
    task = task_of(config)
    place = config.captions or task.place
    reader = CaptionReader({place: 1.0} if place else {}, templates=(SLOT,))
    model = None if by == RULES else open_model(by, config)
    samples = CaptionedSamples(open_source(data, reading=reading), reader, config.limit)
    if model is None:
        rows = write_rows(out, by_rule(samples, config))
        return Rewritten(Counts(answered=samples.read, rows=rows), samples.without)
    with closing(AnswerCache(out.with_name(out.name + ".cache"))) as cache, watched(len(samples)) as watch:
        rewriting = Rewriting(task, model, cache, config)
        write_rows(out, rewriting.run(samples, watch))
    return Rewritten(rewriting.counts, samples.without)
