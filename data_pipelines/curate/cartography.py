"""The group `cartography`: columns that a run's memory `cartography` has written, copied into the table."""

from pathlib import Path

from tercet.data_pipelines.columns import COLUMNS as FOLDER
from tercet.data_pipelines.columns import column_digest, has_column, read_values
from tercet.data_pipelines.curate.parts import table_of
from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.source import Source
from tercet.distributed import World
from tercet.errors import UserError

CARTOGRAPHY = "cartography"
COLUMNS = {
    "count": ScoreColumn("int32", "how often a step of the run had the sample"),
    "confidence": ScoreColumn("float32", "mean probability of the right pair among those of a batch"),
    "variability": ScoreColumn("float32", "standard deviation of that probability over the run"),
}


def import_cartography(
    table: ScoreTable, name: str, source: Source, run: Path, world: World, group: str = CARTOGRAPHY
) -> ScoreGroup:
    """`run`: the folder of the run, which trained on this source. A collective."""
    folder = run / FOLDER / CARTOGRAPHY
    if not folder.is_dir():
        raise UserError(f"{run} has no columns of cartography; train with memories={{cartography: …}} to its end")
    if not has_column(folder, source.fingerprint):
        raise UserError(
            f"{run} did not train on these data, or they have changed since; score the data that the run trained on"
        )
    request = {"by": CARTOGRAPHY, "values": column_digest(folder, source.fingerprint)}
    found = table.begin_group(group, request, COLUMNS)
    for ids in world.broadcast(found.missing(name))[world.rank :: world.size]:
        values = {column: read_values(folder, source.fingerprint, column, ids) for column in COLUMNS}
        seen = sorted(values["count"])
        rows = [{"id": id, "key": source.key(id), **{one: values[one][id].item() for one in values}} for id in seen]
        found.write(name, ids, table_of(COLUMNS, rows))
    world.wait_for_all()
    return found
