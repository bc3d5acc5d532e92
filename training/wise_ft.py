"""WiSE-FT (Wortsman et al. 2022): evaluates interpolations of the weights before and after fine-tuning.

An interpolation is often better than either end, most of all on data unlike the training data. Low-rank updates are
merged into the weights first. The best interpolation is chosen by the same results that the report shows of it: to
publish a result, evaluate it on another split.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from tercet.errors import UserError
from tercet.eval.result import Json, Result, to_json
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.tuning.interpolation import interpolate
from tercet.models.tuning.plain import merged, untuned
from tercet.training.checkpoint_reader import fill
from tercet.training.config import RunConfig

CHOSEN = "α is chosen on these very data, which flatters it"
START, KEPT = "start.safetensors", "wise_ft"  # in the run's folder: the weights before the first step, the chosen model


@dataclass(frozen=True)
class InterpolatedModel:
    """One point of the line and what was found there; its score is the mean of the first metric of the first task."""

    alpha: float
    results: list[Result]

    @property
    def score(self) -> float:
        first = self.results[0]
        values = [one.value for one in self.results if (one.task, one.metric) == (first.task, first.metric)]
        return sum(values) / len(values)


class Interpolation:
    """From the weights that a run kept at its start to those at its end. Every rank holds one."""

    def __init__(self, config: RunConfig, folder: Path, end: Mapping[str, Tensor]) -> None:
        self.config = config.model_copy(update={"model": untuned(config.model)})
        self.start, self.end = load_file(folder / START), merged(end, config.model)

    def at(self, alpha: float) -> Multimodal:
        model = build_model(self.config.model, self.config.terms, self.config.seed)
        fill(model, interpolate(self.start, {name: value.cpu() for name, value in self.end.items()}, alpha))
        return model

    def evaluated(self, evaluate: Callable[[Multimodal], list[Result]]) -> list[InterpolatedModel]:
        """The interpolations that the recipe names, in its order."""
        return [InterpolatedModel(alpha, evaluate(self.at(alpha))) for alpha in self.config.eval.wise_ft]

    def keep(self, place: InterpolatedModel, folder: Path) -> None:
        export_folder(self.at(place.alpha), self.config, folder / KEPT)


def best(places: list[InterpolatedModel]) -> InterpolatedModel:
    """The place with the highest score, the first of equals."""
    return max(places, key=lambda place: place.score)


def along(results: list[Json], places: list[InterpolatedModel]) -> list[Json]:
    """Each data set and task with its numbers at every place of the line."""
    if not places:
        return results
    chosen = best(places).alpha
    curves = {f"{place.alpha:g}": to_json(place.results, "") for place in places}
    found = [{alpha: there[at]["metrics"] for alpha, there in curves.items()} for at in range(len(results))]
    return [{**one, "wise_ft": {"best": chosen, "metrics": curve}} for one, curve in zip(results, found, strict=True)]


def told(places: list[InterpolatedModel], folder: Path, kept: bool) -> dict[str, str]:
    """The best place in words, and where its model is or would be."""
    if not places:
        return {}
    place = best(places)
    others = ", ".join(f"{100 * other.score:.1f} at {other.alpha:g}" for other in places if other is not place)
    measured = f"mean {place.results[0].metric} of {place.results[0].title or place.results[0].task}"
    model = f"the model is in {folder / KEPT}" if kept else "eval.keep_wise_ft=true writes the model"
    words = f"best at α = {place.alpha:g} with {100 * place.score:.1f} ({measured}; {others})"
    return {"WiSE-FT": f"{words}; {CHOSEN}; {model}"}


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
