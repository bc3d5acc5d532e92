"""The texts of a sample beside its caption, by their keys in `.json`. Mistakes are made in the training split only."""

from tercet.data_pipelines.builtin.captions import rewrites
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.facts import relevance
from tercet.data_pipelines.builtin.languages import translated
from tercet.data_pipelines.builtin.recaptions import graded, sentences, synthetic
from tercet.data_pipelines.builtin.scene import Scene


def texts_of_caption(config: WorldConfig, told: Scene, shown: Scene) -> dict[str, object]:
    """What is made from the caption, and repeats its mistakes. `told`: the scene that the caption describes."""
    texts: dict[str, object] = {}
    if config.languages:
        wrong = config.languages if shown.address.split == "train" else dict.fromkeys(config.languages, 0.0)
        texts["captions"] = {language: translated(told, language, share) for language, share in wrong.items()}
    if config.rewrites:
        texts["rewrites"] = rewrites(told, config.rewrites)
    if config.partly_wrong is not None:
        texts["relevance"] = relevance(told, shown)
    return texts


def texts_of_scene(config: WorldConfig, shown: Scene) -> dict[str, object]:
    """What is made from the scene itself, whatever its caption says."""
    training = shown.address.split == "train"
    texts: dict[str, object] = {}
    if config.synthetic is not None:
        texts["synthetic"] = synthetic(shown, config.synthetic if training else 0.0)
    if config.long is not None:
        parts = sentences(shown, config.long if training else 0.0)
        texts |= {"long": " ".join(parts), "sentences": parts}
    if config.grades:
        texts["graded"] = graded(shown, config.grades)
    return texts
