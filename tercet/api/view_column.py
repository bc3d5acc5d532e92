"""The vectors of a model for the augmented views that a recipe draws, which the memory `stored_teacher` reads."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tercet.api.embed import check_folder
from tercet.api.model import Loadable, load
from tercet.data_pipelines.captions.reader import USUAL
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.embedding.fingerprint import weights_digest
from tercet.eval.embedding.view_column import Stored, ViewManifest, how_made
from tercet.eval.embedding.view_writer import ViewWriter
from tercet.modality import modality_of
from tercet.models.multimodal import build_model
from tercet.models.same_input import difference
from tercet.training.config import RunConfig
from tercet.training.episodes.curate import read_texts
from tercet.training.preflight.complete import inherited
from tercet.training.recipe import load_recipe


def embed_views(
    model: Loadable,
    recipe: str,
    out: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    stored: Stored = "fp16",
    classes: str | os.PathLike[str] | None = None,
    top: int = 20,
) -> ViewManifest:
    """Writes the vectors of all views of all training samples of a recipe, and of their captions, to the folder `out`.

    The pictures and sounds are those that the model of the recipe gets when it trains. An interrupted call resumes, on
    any number of ranks. `classes`: a file with a text in each line; then the `top` texts that are most similar to each
    view are stored with their cosines, instead of vectors.
    """
    check_folder(out)
    config = inherited(load_recipe(recipe, overrides))
    if config.data.views is None:
        raise UserError(f"--views {recipe}: the recipe has no fixed views; set how many, such as data.views.count=10")
    learner = build_model(config.model, config.terms, config.seed)
    with joined() as world:
        loaded = load(model, world.device)
        shared = {name: one for name, one in learner.intakes.items() if name in loaded.towers.intakes}
        for name, intake in shared.items():
            fault = name != "text" and difference(loaded.towers.intakes[name], intake)
            if fault:
                raise UserError(f"{loaded.name} {fault} of the recipe; use another model, or change model.{name}")
        manifest = ViewManifest(
            loaded.name, weights_digest(loaded.towers), loaded.dim, stored, config.data.views.count,
            how_made(config.data, shared), tuple(read_texts(os.fspath(classes), "--classes")) if classes else (),
        )  # fmt: skip
        writer = ViewWriter(Path(out), loaded.towers, manifest, shared, world, config.precision == "bf16", top)
        sources = OpenedSources()
        for name, split in config.data.train.items():
            if split.sound_pairs:
                raise UserError(
                    f"data.train.{name}.sound_pairs: joins two sounds to one, which is not stored; remove it"
                )
            writer.write(config.data, name, sources.open_first(config.data, split, world), places(config, name))
        return writer.manifest


def places(config: RunConfig, source: str) -> list[Mapping[str, float]]:
    """Where the captions are that the terms of a recipe draw from a source."""
    own = config.data.train[source].captions or USUAL
    used = sorted({name for term in config.terms for name in term.fields if modality_of(name) == "text"})
    further = [config.fields[name].source for name in used if name in config.fields]
    listed = [{place: 1.0} for place in further if place.startswith(("json.", "txt"))]
    return [*([own] if len(listed) < len(used) else []), *listed]
