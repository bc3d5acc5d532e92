"""Mines hard negatives for every sample of a source: embed, search, apply the rules, write the graph and the table.

All that takes long is in the cache in pieces, so the same call resumes, and other rules need no new search. The results
are the same on any number of ranks: each piece is searched by one of them, and equal scores are ordered by id.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tercet.data_pipelines.captions.sidecar import sidecar_state
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError, did_you_mean
from tercet.eval.embedding.embed_data import embed_data
from tercet.eval.embedding.store import Store
from tercet.modality import FILES
from tercet.models.multimodal import Multimodal
from tercet.training.mining.config import MiningConfig
from tercet.training.mining.equal import MarkReader
from tercet.training.mining.graph import Rows, write_graph
from tercet.training.mining.inverted_lists import load_faiss
from tercet.training.mining.mined import Described, Mined, Tally
from tercet.training.mining.rules import choose
from tercet.training.mining.search import Question, Search, read_marks
from tercet.training.mining.table import TableFile, Written


@dataclass(frozen=True)
class MiningTask:
    """A model, a source with its name, how the source is read, and the options."""

    model: Multimodal
    name: str
    data: DataConfig
    split: SplitConfig
    config: MiningConfig
    cache: Path


def mine(task: MiningTask, out: Path, world: World, table: TableFile | None = None) -> Mined:
    """Writes the graph of a source to `out`, and its rows to `table`; returns what was found. A collective."""
    data, split, config = task.data, task.split, task.config
    if config.use_faiss:
        load_faiss()
    for modality in filter(None, (config.query, config.to)):
        _check(modality, task.model.intakes, "the model encodes")
    source = OpenedSources().open_first(data, split, world)
    store = embed_data(task.model, data, split, world, cache=task.cache)
    question = _question(config, store)
    reader = MarkReader(source, split, data.workers)
    read_as = f"{source.snapshot} {split.group} {split.captions} {sidecar_state(split.sidecar)}"
    marks = read_marks(reader, read_as, store, task.cache, world)
    tables = [(table, Written(source, split, question.query, question.to, marks))] if table else []
    search = Search(store, question, marks, task.cache)
    search.run(world)
    tally = Tally()

    def rows() -> Iterator[Rows]:
        for candidates in search:
            negatives = choose(candidates, config)
            tally.add(candidates, negatives)
            for file, written in tables:
                file.add(written.groups(candidates, negatives))
            yield candidates, negatives

    if world.first:
        write_graph(out, source.fingerprint, rows())
    about = Described(task.name, source.fingerprint, question.query, question.to)
    return world.broadcast(tally.mined(about, search.counts()))


def _question(config: MiningConfig, store: Store) -> Question:
    """The modalities of a config; by default pictures, else sounds, else captions, compared with each other."""
    held = [name for name in FILES if name in store.modalities]
    query = config.query or next((name for name in held if name != "text"), held[0])
    to = config.to or query
    for modality in (query, to):
        _check(modality, held, "the data hold")
    return Question(query, to, config.depth, config.use_faiss)


def _check(modality: str, known: Collection[str], who: str) -> None:
    if modality not in known:
        raise UserError(f"{who} no {modality}; {did_you_mean(modality, known)}")
