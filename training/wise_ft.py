"""WiSE-FT (Wortsman et al. 2022): what lies between the weights before and after a run, examined place by place.

Of fine-tuned models some point of the line is often better than either end, most of all on data unlike the training
data. Low-rank updates are merged first: the line is one of weights, and of nothing that they are a product of. The best
place is chosen by the very numbers that are shown of it; what is to be published needs another split.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from tercet.errors import UserError
from tercet.eval.result import Result
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.tuning.interpolation import interpolate
from tercet.models.tuning.plain import merged, untuned
from tercet.training.config import RunConfig
from tercet.training.saved import fill

START, KEPT = "start.safetensors", "wise_ft"  # in the run's folder: the weights before the first step, the chosen model


@dataclass(frozen=True)
class Place:
    """One point of the line and what was found there; its score is the mean of the first metric of the first task."""

    alpha: float
    results: list[Result]

    @property
    def score(self) -> float:
        first = self.results[0]
        values = [one.value for one in self.results if (one.task, one.metric) == (first.task, first.metric)]
        return sum(values) / len(values)


class Line:
    """From the weights that a run kept at its start to those at its end. Every rank holds one."""

    def __init__(self, config: RunConfig, folder: Path, end: Mapping[str, Tensor]) -> None:
        self.config = config.model_copy(update={"model": untuned(config.model)})
        self.start, self.end = load_file(folder / START), merged(end, config.model)

    def at(self, alpha: float) -> Multimodal:
        model = build_model(self.config.model, self.config.terms, self.config.seed)
        fill(model, interpolate(self.start, {name: value.cpu() for name, value in self.end.items()}, alpha))
        return model

    def examined(self, examine: Callable[[Multimodal], list[Result]]) -> list[Place]:
        """Every place that the recipe asks for, in its order."""
        return [Place(alpha, examine(self.at(alpha))) for alpha in self.config.eval.wise_ft]

    def keep(self, place: Place, folder: Path) -> None:
        export_folder(self.at(place.alpha), self.config, folder / KEPT)


def best(places: list[Place]) -> Place:
    """The place with the highest score, the first of equals."""
    return max(places, key=lambda place: place.score)


def keep_start(folder: Path, model: Multimodal, config: RunConfig) -> None:
    weights = {name: value.cpu().contiguous() for name, value in merged(model.state_dict(), config.model).items()}
    draft = (folder / START).with_suffix(".tmp")
    save_file(weights, draft)
    os.replace(draft, folder / START)


def check_start(folder: Path) -> None:
    """Said before a run goes on, rather than at its end."""
    if not (folder / START).is_file():
        raise UserError(
            f"eval.wise_ft: {folder} has no {START}, for the run began without it; leave it out, or start afresh"
        )
