"""`tercet.embed`: the embeddings of a data set, computed once and stored."""

import os
from pathlib import Path

from tercet.api.data import Data, looked_at
from tercet.api.model import Loadable, load, name_of
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.embedding.embed_data import embed_data
from tercet.eval.embedding.store import Store


def embed(model: Loadable, data: Data, out: str | os.PathLike[str] | None = None, dims: int | None = None) -> Store:
    """Stores the embeddings in `out`, or else in the cache, and reuses those of an equal call.

    `dims` cuts all vectors to their first dimensions, and normalises them anew.

    `.table()` reads all of them, `.pieces()` a piece at a time. An interrupted call resumes, on any number of ranks.
    """
    check_folder(out)
    given = looked_at(name_of(model), data)
    if len(given.val) != 1:
        raise UserError(
            f"only one data set can be embedded at a time, and these are {len(given.val)}: {', '.join(given.val)}"
        )
    with joined() as world:
        towers = load(model, world.device, dims).towers
        return embed_data(towers, given, next(iter(given.val.values())), world, None if out is None else Path(out))


def check_folder(out: str | os.PathLike[str] | None) -> None:
    if out is not None and Path(out).is_file():
        raise UserError(f"{out} is a file, and embeddings need a folder; name a folder")
