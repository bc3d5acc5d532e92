"""`tercet.mine`: hard negatives for every sample of a data set."""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from tercet.api.data import Data, looked_at
from tercet.api.embed import check_folder
from tercet.api.model import Loadable, load, name_of
from tercet.configs.base import build
from tercet.data_pipelines.shards.cache import cache_folder as usual_cache
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.tables.table import plain_text
from tercet.training.mining.config import MiningConfig
from tercet.training.mining.mine import MiningTask
from tercet.training.mining.mine import mine as mine_source
from tercet.training.mining.mined import Mined
from tercet.training.mining.show import render
from tercet.training.mining.table import table_file
from tercet.whole_file import is_empty, write_json

SUMMARY = "mining.json"
TABLE = "negatives.jsonl"


@dataclass(frozen=True)
class Negatives:
    """What was mined: the folder of the graph, the table if there is one, and the statistics of each source."""

    graph: Path
    table: Path | None
    sources: tuple[Mined, ...]
    config: MiningConfig

    def to_json(self) -> dict[str, Any]:
        return {
            "graph": str(self.graph),
            "table": None if self.table is None else str(self.table),
            "options": self.config.model_dump(mode="json"),
            "sources": [one.to_json() for one in self.sources],
        }

    def __rich__(self) -> RenderableType:
        return render(self.sources, self.config)

    def __repr__(self) -> str:
        return plain_text(self)


def mine(
    model: Loadable,
    data: Data | None,
    out: str | os.PathLike[str],
    *,
    split: str | None = None,
    table: str | os.PathLike[str] | None = None,
    cache_folder: str | os.PathLike[str] | None = None,
    dims: int | None = None,
    **options: Any,
) -> Negatives:
    """Writes the neighbour graph of the data to the folder `out` and, with `output_format`, a table as well.

    Without data, `split` names those of the model's run: train or val. `options` are those of `MiningConfig`, such as
    `query="image", to="text", relative_margin=0.05`. An interrupted call resumes, on any number of ranks.
    """
    check_folder(out)
    _check_graph(Path(out))
    config = build(MiningConfig, options, lambda key: "mining")
    path = _table(out, table, config)
    given = looked_at(name_of(model), data, split)
    with joined() as world:
        towers = load(model, world.device, dims).towers
        place = usual_cache() if cache_folder is None else Path(cache_folder)
        with table_file(path, config) if path and world.first else nullcontext() as file:
            found = [
                mine_source(MiningTask(towers, name, given, source, config, place), Path(out), world, file)
                for name, source in given.val.items()
            ]
        mined = Negatives(Path(out), path, tuple(found), config)
        if world.first:
            facts = {
                "model": name_of(model),
                "options": config.model_dump(mode="json", by_alias=True),
                **mined.to_json(),
            }
            write_json(Path(out) / SUMMARY, facts)
        world.barrier()
        return mined


def _check_graph(out: Path) -> None:
    """Raises `UserError` if the folder has files, but neither the summary of a graph nor the column of one."""
    if not is_empty(out) and not (out / SUMMARY).exists() and not any(out.glob("*/*.safetensors")):
        raise UserError(f"{out} has files that are not a neighbour graph; name a new or an empty folder")


def _table(out: str | os.PathLike[str], table: str | os.PathLike[str] | None, config: MiningConfig) -> Path | None:
    """The file of the table, if the options ask for one."""
    if config.output_format is None:
        if table is not None:
            raise UserError(f"the table {table} needs a format; give output_format as well, such as triplet")
        return None
    path = Path(out) / TABLE if table is None else Path(table)
    if path.suffix not in (".jsonl", ".csv"):
        raise UserError(f"the table {path} is neither .jsonl nor .csv; name it {path.with_suffix('.jsonl')}")
    return path
