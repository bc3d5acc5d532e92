"""What a recipe may do with the stored features of a locked tower (`model.MODALITY.cached`). Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tercet.configs.base import Misfit
from tercet.data_pipelines.features import check_features
from tercet.data_pipelines.source import Source

if TYPE_CHECKING:
    from tercet.training.config import RunConfig


def check_cached(run: "RunConfig") -> None:
    """Refuses what needs the pictures, sounds or captions themselves."""
    for modality in run.model.cached:
        key = f"model.{modality}.cached"
        if run.data.mode == "stream":
            raise Misfit(key, "is read by sample ids, which a stream lacks; set `data.mode: index`")
        if run.mixup:
            raise Misfit(key, "has no inputs to mix; remove `mixup`, or `cached`")
        if run.data.views:
            raise Misfit(key, "has one view of each sample; remove `data.views`, or `cached`")
        augment = run.data.augment
        changed = {"image": augment.image.changes, "audio": augment.audio.changes}
        if changed.get(modality) or augment.further.get(modality):
            raise Misfit(key, f"has no pictures or sounds to change; remove `data.augment.{modality}`, or `cached`")
        for name, source in run.data.train.items():
            if source.sound_pairs:
                raise Misfit(key, f"has no joined sounds; remove `data.train.{name}.sound_pairs`, or `cached`")
            if modality == "text" and len(source.captions) > 1:
                raise Misfit(
                    key, f"has the captions of one place; name one place in `data.train.{name}.captions`, or remove it"
                )
        scoring = run.selection.scoring if run.selection else None
        if modality == "image" and scoring and scoring.reduces:
            raise Misfit(key, "has no pictures to make smaller; remove `selection.scoring`, or `cached`")


def check_stored(run: "RunConfig", sources: Mapping[str, Source]) -> None:
    """Raises `UserError` if features of one of these sources are missing."""
    for modality, folder in run.model.cached.items():
        check_features(modality, Path(folder), run.data.train, sources)


def decoded(run: "RunConfig", modalities: list[str]) -> list[str]:
    """The modalities that the run decodes, of those that it trains."""
    return [name for name in modalities if name not in run.model.cached]
