"""The vectors of a model as a column of a data set, which runs read instead of running the model."""

import os
from pathlib import Path

from tercet.api.data import Data, looked_at
from tercet.api.embed import check_folder, embed
from tercet.api.model import Loadable, load, name_of
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import joined
from tercet.eval.embedding.store import Store
from tercet.eval.embedding.vector_column import write_vectors
from tercet.training.selection.reference import temperatures


def embed_column(model: Loadable, data: Data, out: str | os.PathLike[str], dims: int | None = None) -> Store:
    """Writes a vector of each sample to the folder `out`, for `selection.reference_vectors`. The folder may hold the
    vectors of other data by the same model. An interrupted call resumes, on any number of ranks."""
    check_folder(out)
    loaded = load(model, dims=dims)
    store = embed(loaded, data)
    given = looked_at(name_of(model), data)
    (split,) = given.val.values()
    with joined() as world:
        fingerprint = OpenedSources().open_first(given, split, world).fingerprint
        write_vectors(
            store,
            fingerprint,
            Path(out),
            loaded.towers,
            loaded.name,
            temperatures(loaded.name, loaded.towers),
            world,
            split.captions,
        )
    return store
