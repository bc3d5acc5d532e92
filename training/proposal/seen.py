"""The facts about a dataset that decide how to train on it: its pairs, modalities, lengths and repetitions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tercet.data_pipelines.bad_samples import most_bad
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.manifests.source import ManifestSource
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.survey.stats import Stats, survey
from tercet.errors import UserError
from tercet.modality import MODALITIES
from tercet.plural import number_of

ALL = 20_000  # a dataset of at most so many samples is read completely
DRAWN = 4_096  # samples that are read of a larger one
SAMPLES_PER_WORKER = 2_000  # fewer are read sooner than another process starts
RARE = 0.01  # a modality that a smaller share of the samples have is ignored
MAX_BAD: float = DataConfig.model_fields["max_bad"].default
LEAST = 32  # pairs: fewer do not give a batch and something to evaluate
REPEATED = 5  # captions that occur so often, on average, are names of classes


@dataclass(frozen=True)
class DataSummary:
    """Numbers count the samples that were read; `samples` and `pairs` are estimates for the whole dataset."""

    samples: int
    looked_at: int
    pairs: int
    holding: Mapping[str, int]  # samples by modality
    captions: int
    different: int  # captions
    words: Mapping[str, float]  # of a caption, by quantile
    seconds: Mapping[str, float]  # of a sound
    twice: Mapping[str, int]  # pictures and sounds that another sample has, too
    bad: int

    @property
    def modalities(self) -> frozenset[str]:
        return frozenset(self.holding)

    @property
    def whole(self) -> bool:
        return self.looked_at == self.samples

    @property
    def classes(self) -> int | None:
        """The number of different captions, if they repeat so often that they must be names of classes."""
        return self.different if self.captions >= REPEATED * self.different else None

    def __str__(self) -> str:
        looked = "" if self.whole else f", {self.looked_at:,} of them looked at"
        held = ", ".join(f"{count:,} with {modality}" for modality, count in self.holding.items())
        parts = [f"{self.samples:,} samples{looked}", held]
        if self.captions:
            words = f"half of them of {self.words['p50']:.0f} words or fewer"
            parts.append(f"{self.captions:,} captions, {self.different:,} different, {words}")
        if self.classes:
            parts.append(f"these few captions are read as the names of {self.classes:,} classes")
        parts += [f"{count:,} with the same {kind} as another" for kind, count in self.twice.items()]
        return "; ".join([*parts, f"{self.bad:,} cannot be used"] if self.bad else parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"classes": self.classes}


def look(source: Source, name: str, workers: int) -> DataSummary:
    if not len(source):
        raise UserError(f"{name} holds no samples")
    sample = len(source) if len(source) <= ALL else DRAWN
    stats = survey(source, min(workers, sample // SAMPLES_PER_WORKER + 1), sample)
    seen = _seen(stats)
    if not seen.modalities:
        raise UserError(f"no sample of {name} can be used; `tercet data check {name}` says why")
    if len(seen.modalities) < 2:
        held = next(iter(seen.modalities))
        lacking = "captions" if "text" not in seen.modalities else "pictures or sounds"
        hint = source.lacking if isinstance(source, ManifestSource) else ""
        raise UserError(f"{name}: {hint or f'it has {held} alone, and training needs two modalities; add {lacking}'}")
    if seen.bad > most_bad(MAX_BAD, seen.looked_at):
        raise UserError(
            f"{seen.bad:,} of {seen.looked_at:,} samples of {name} cannot be used, and a run stops above "
            f"{MAX_BAD:.0%}; `tercet data check {name}` lists them"
        )
    if seen.pairs < LEAST:
        pairs = number_of(seen.pairs, "usable pair")
        raise UserError(f"{name} has {pairs}, too few to learn from; give at least {LEAST}")
    return seen


def _seen(stats: Stats) -> DataSummary:
    tally = stats.tally
    holding = {modality: _holding(stats, modality) for modality in MODALITIES}
    holding = {modality: count for modality, count in holding.items() if count > RARE * tally.samples}
    captions = tally.values["text.words"].count if "text.words" in tally.values else 0
    return DataSummary(
        samples=stats.samples,
        looked_at=tally.samples,
        pairs=round(min(holding.values(), default=0) * stats.samples / tally.samples),
        holding=holding,
        captions=captions,
        different=captions - _repeated(stats, "text"),
        words=_quantiles(stats, "text.words"),
        seconds=_quantiles(stats, "audio.seconds"),
        twice={kind: repeated for kind in holding if kind != "text" and (repeated := _repeated(stats, kind))},
        bad=tally.counts["bad"].total() if "bad" in tally.counts else 0,
    )


def _holding(stats: Stats, modality: str) -> int:
    """Captions may be in a `.json`; everything else is known by its own file."""
    if modality == "text":
        return stats.tally.values["text.captions"].count if "text.captions" in stats.tally.values else 0
    return dict(stats.listed("holds")).get(modality, 0)


def _repeated(stats: Stats, kind: str) -> int:
    """The number of samples that repeat the caption, picture or sound of an earlier one."""
    sharing = stats.shared.get(kind)
    return sharing.samples - sharing.groups if sharing else 0


def _quantiles(stats: Stats, name: str) -> dict[str, float]:
    values = stats.tally.values.get(name)
    return {f"p{percent}": values.quantile(percent / 100) for percent in (50, 95)} if values else {}
