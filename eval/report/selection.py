"""A selection in the report: its measures over the steps, and samples that it chose and left at some of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tercet.data_pipelines.sample import Sample
from tercet.eval.report.curves import WHOLE, Chart, Record, chart, keys, series
from tercet.eval.report.gallery import Exhibit, exhibit

PREFIX, CHOSEN, LEFT = "selection/", "_chosen", "_left"
MEASURES = (  # the title of a chart, how to read it, and its lines by the names of their measures
    (
        "Known bad samples",
        "Their share among the chosen and among all drawn samples.",
        {"bad_chosen": "chosen", "bad_drawn": "drawn"},
    ),
    (
        "Overlap with independent selection",
        "Share of the chosen samples that would also be chosen if each were scored by itself.",
        {"overlap_independent": WHOLE},
    ),
    ("Seconds of selection", "Of a step, with scoring, on the first process.", {"seconds": WHOLE}),
    (
        "FLOPs of a step",
        "Of the towers: scoring the drawn samples, and training on the chosen ones.",
        {"flops_scoring": "scoring", "flops_training": "training"},
    ),
    (
        "Cost of a step",
        "FLOPs with scoring, relative to a step of the same size without selection.",
        {"flops_ratio": WHOLE},
    ),
)
SCORES = "Mean over the chosen samples and over those that were left."


@dataclass(frozen=True)
class SelectedSample:
    """A sample with its media, its score, and whether it is known to be bad; None if that is not known."""

    exhibits: tuple[Exhibit, ...]
    score: float
    bad: bool | None


@dataclass(frozen=True)
class SelectedStep:
    """Some samples of a step, from high to low scores. `scored` names the score."""

    step: int
    scored: str
    chosen: tuple[SelectedSample, ...]
    left: tuple[SelectedSample, ...]


Load = Callable[[int], Sample | None]  # a sample's id -> the sample with its media; None if it cannot be read


def selection_charts(records: Sequence[Record]) -> list[Chart]:
    """A chart for each measure that the run recorded. Scores come first, under the name that the rule gives them."""
    known = [name.removeprefix(PREFIX) for name in keys(records) if name.startswith(PREFIX)]
    scores = [name.removesuffix(LEFT) for name in known if name.endswith(LEFT)]
    wanted = [
        *((_title(name), SCORES, {f"{name}{CHOSEN}": "chosen", f"{name}{LEFT}": "left"}) for name in scores),
        *MEASURES,
    ]
    found = []
    for title, note, names in wanted:
        lines = {line: series(records, f"{PREFIX}{name}") for name, line in names.items() if name in known}
        if any(len(points) > 1 for points in lines.values()):
            found.append(replace(chart(title, lines), note=note))
    return found


def selected_steps(lines: Sequence[Mapping[str, Any]], load: Load, rate: int) -> list[SelectedStep]:
    """The recorded examples with their media. Sounds are at `rate`."""

    def shown(samples: Sequence[Mapping[str, Any]]) -> tuple[SelectedSample, ...]:
        found = ((one, load(one["id"])) for one in samples)
        return tuple(SelectedSample(exhibits(own, rate), one["score"], one["bad"]) for one, own in found if own)

    return [SelectedStep(one["step"], one["scored"], shown(one["chosen"]), shown(one["left"])) for one in lines]


def exhibits(sample: Sample, rate: int) -> tuple[Exhibit, ...]:
    """The picture, the sound and the first caption of a sample."""
    media = [replace(exhibit(sample, modality, rate), caption="") for modality in sample.media]
    return (*media, *(Exhibit(text=caption) for caption in sample.text[:1]))


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
