"""What a recipe may do with stored features: those of a locked tower (`model.MODALITY.cached`), and fields of stored
vectors (`fields.NAME.features`, `fields.NAME.among`). Imports no torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tercet.configs.base import Misfit
from tercet.data_pipelines.features import FeatureManifest, check_features
from tercet.data_pipelines.source import Source
from tercet.errors import did_you_mean
from tercet.modality import field_behind, modality_of, modality_of_vectors

if TYPE_CHECKING:
    from tercet.training.config import RunConfig


def check_cached(run: "RunConfig") -> None:
    """Refuses what needs the pictures, sounds or captions themselves."""
    stored = {f"model.{modality}.cached": modality for modality in run.model.cached}
    stored |= {f"fields.{name}.features": one.source for name, one in run.fields.items() if one.features}
    for key, modality in stored.items():
        option = f"`{key.rpartition('.')[2]}`"
        if run.data.mode == "stream":
            raise Misfit(key, "is read by sample ids, which a stream lacks; set `data.mode: index`")
        if run.mixup:
            raise Misfit(key, f"has no inputs to mix; remove `mixup`, or {option}")
        if run.data.views:
            raise Misfit(key, f"has one view of each sample; remove `data.views`, or {option}")
        augment = run.data.augment
        changed = {"image": augment.image.changes, "audio": augment.audio.changes}
        if changed.get(modality) or augment.further.get(modality):
            raise Misfit(key, f"has no pictures or sounds to change; remove `data.augment.{modality}`, or {option}")
        for name, source in run.data.train.items():
            if source.sound_pairs:
                raise Misfit(key, f"has no joined sounds; remove `data.train.{name}.sound_pairs`, or {option}")
            if modality == "text" and len(source.captions) > 1:
                raise Misfit(
                    key, f"has the captions of one place; name one place in `data.train.{name}.captions`, or remove it"
                )
    scoring = run.selection.scoring if run.selection else None
    if "image" in run.model.cached and scoring and scoring.reduces:
        raise Misfit("model.image.cached", "has no pictures to make smaller; remove `selection.scoring`, or `cached`")
    for name, field in run.fields.items():
        if field.stored and run.source_weights:
            raise Misfit(f"fields.{name}", "has no vectors of the target of `source_weights`; remove one of them")
        if field.among:
            _check_retrieved(run, name, field.source)


def _check_retrieved(run: "RunConfig", name: str, query: str) -> None:
    """Refuses soft retrieval by a field without stored vectors, or into a projection of vectors of other lengths."""
    stored = [*run.model.cached, *(one for one, field in run.fields.items() if field.features)]
    if query not in stored:
        hint = did_you_mean(query, stored) if stored else "store them first: tercet embed RECIPE --format features"
        raise Misfit(f"fields.{name}.from", f"is `{query}`, which has no stored vectors; {hint}")
    compared = sorted({field for term in run.terms for field in term.fields})
    if compared and query not in compared:
        raise Misfit(f"fields.{name}.from", f"is `{query}`, which no term compares; add a term between it and another")
    modality = modality_of(name)
    tower = run.model.towers.get(modality)
    if tower and not (tower.projection and tower.projection.unit) and not run.init:
        raise Misfit(
            f"model.{modality}.projection",
            f"gets means of vectors of length 1 from `fields.{name}`; bring the tower's outputs to this length too: "
            "{unit: true}",
        )


def check_stored(run: "RunConfig", sources: Mapping[str, Source]) -> None:
    """Raises `UserError` if features of one of these sources are missing."""
    for modality, folder in run.model.cached.items():
        check_features(f"model.{modality}.cached", modality, Path(folder), run.data.train, sources)
    for name, field in run.fields.items():
        if field.features:
            check_features(f"fields.{name}.features", field.source, Path(field.features), run.data.train, sources)
        if field.among:
            FeatureManifest.read(Path(field.among.features), f"fields.{name}.among.features")


def decoded(run: "RunConfig", fields: Iterable[str]) -> list[str]:
    """The modalities of these fields that the run decodes."""
    stored = {name for name, field in run.fields.items() if field.stored}
    modalities = {modality_of_vectors(name) for name in fields if field_behind(name) not in stored}
    return sorted(modalities - run.model.cached.keys())
