"""`tercet.embed`: a whole data set's embeddings, made once and kept."""

import os
from pathlib import Path

from tercet.api.data import Data, looked_at
from tercet.api.model import Loadable, load, name_of
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.embed_data import embed_data
from tercet.eval.store import Store


def embed(model: Loadable, data: Data, out: str | os.PathLike[str] | None = None) -> Store:
    """In `out`, or in the cache, where an equal request finds them: `.table()` reads all, `.pieces()` one by one.

    What is cut short goes on where it stood, on any number of ranks.
    """
    check_folder(out)
    given = looked_at(name_of(model), data)
    if len(given.val) != 1:
        raise UserError(f"embeddings are of one data set, and these are {len(given.val)}: {', '.join(given.val)}")
    with joined() as world:
        towers = load(model, world.device).towers
        return embed_data(towers, given, next(iter(given.val.values())), world, None if out is None else Path(out))


def check_folder(out: str | os.PathLike[str] | None) -> None:
    if out is not None and Path(out).is_file():
        raise UserError(f"{out} is a file, and embeddings are a folder; name another")
