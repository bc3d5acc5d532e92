"""WiSE-FT (Wortsman et al. 2022): evaluates interpolations of the weights before and after fine-tuning.

An interpolation is often better than either end, above all on data unlike the training data. tercet first merges
low-rank updates into the weights. It chooses the best interpolation by the same results that the report shows, so
these are too good: to publish a result, evaluate the chosen model on another split.
"""

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
from tercet.training.checkpoints.reader import fill, fitted
from tercet.training.config import RunConfig
from tercet.whole_file import whole_file

CHOSEN = "α was chosen on the same data, so the score is too high"
START, KEPT = "start.safetensors", "wise_ft"  # in the run's folder: the weights before the first step, the chosen model


@dataclass(frozen=True)
class InterpolatedModel:
    """The results at one α. The score is the mean of the first metric of the first task."""

    alpha: float
    results: list[Result]

    @property
    def score(self) -> float:
        first = self.results[0]
        values = [one.value for one in self.results if (one.task, one.metric) == (first.task, first.metric)]
        return sum(values) / len(values)


class Interpolation:
    """Interpolates between the weights at the start and at the end of a run. Every rank has one."""

    def __init__(self, config: RunConfig, folder: Path, end: Mapping[str, Tensor]) -> None:
        self.config = config.model_copy(update={"model": untuned(config.model)})
        self.start, self.end = load_file(folder / START), merged(end, config.model)

    def at(self, alpha: float) -> Multimodal:
        model = build_model(self.config.model, self.config.terms, self.config.seed)
        end = {name: value.cpu() for name, value in self.end.items()}
        fill(model, interpolate(fitted(model, self.start), end, alpha))
        return model

    def evaluated(self, evaluate: Callable[[Multimodal], list[Result]]) -> list[InterpolatedModel]:
        """The interpolations that the recipe names, in its order."""
        return [InterpolatedModel(alpha, evaluate(self.at(alpha))) for alpha in self.config.eval.wise_ft]

    def keep(self, model: InterpolatedModel, folder: Path) -> None:
        export_folder(self.at(model.alpha), self.config, folder / KEPT)


def best(models: list[InterpolatedModel]) -> InterpolatedModel:
    """The model with the highest score; of equal scores, the first."""
    return max(models, key=lambda model: model.score)


def with_curves(results: list[Json], models: list[InterpolatedModel]) -> list[Json]:
    """Adds to each result the metrics at every α, and the best α."""
    if not models:
        return results
    chosen = best(models).alpha
    by_alpha = {f"{model.alpha:g}": to_json(model.results, "") for model in models}
    curves = [{alpha: found[index]["metrics"] for alpha, found in by_alpha.items()} for index in range(len(results))]
    return [{**one, "wise_ft": {"best": chosen, "metrics": curve}} for one, curve in zip(results, curves, strict=True)]


def summary(models: list[InterpolatedModel], folder: Path, kept: bool) -> dict[str, str]:
    """A note that names the best α and its score, and says where the model is or how to write it."""
    if not models:
        return {}
    chosen = best(models)
    others = ", ".join(f"{100 * other.score:.1f} at {other.alpha:g}" for other in models if other is not chosen)
    measured = f"mean {chosen.results[0].metric} of {chosen.results[0].title or chosen.results[0].task}"
    path = f"the model is in {folder / KEPT}" if kept else "eval.keep_wise_ft=true writes the model"
    words = f"best at α = {chosen.alpha:g} with {100 * chosen.score:.1f} ({measured}; {others})"
    return {"WiSE-FT": f"{words}; {CHOSEN}; {path}"}


def keep_start(folder: Path, model: Multimodal, config: RunConfig) -> None:
    weights = {name: value.cpu().contiguous() for name, value in merged(model.state_dict(), config.model).items()}
    with whole_file(folder / START) as draft:
        save_file(weights, draft)


def check_start(folder: Path) -> None:
    """Checks that the initial weights exist, before a run resumes."""
    if not (folder / START).is_file():
        raise UserError(
            f"eval.wise_ft: {folder} has no {START}, because the run started without eval.wise_ft; "
            "remove the key, or start a new run with another out=…"
        )
