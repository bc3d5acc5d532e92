"""The group `cartography`: columns that a run's memory `cartography` has written, copied into the table."""

from pathlib import Path

from tercet.data_pipelines.columns import COLUMNS as FOLDER
from tercet.data_pipelines.columns import column_digest, has_column, read_values
from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.errors import UserError

CARTOGRAPHY = "cartography"
COLUMNS = {
    "count": ScoreColumn("int32", "how often a step of the run had the sample"),
    "confidence": ScoreColumn("float32", "mean probability of the right pair among those of a batch"),
    "variability": ScoreColumn("float32", "standard deviation of that probability over the run"),
}


def import_cartography(task: ScoreTask, run: Path) -> ScoreGroup:
    """`run`: the folder of the run, which trained on this source. A collective."""
    folder, fingerprint = run / FOLDER / CARTOGRAPHY, task.source.fingerprint
    if not folder.is_dir():
        raise UserError(f"{run} has no columns of cartography; train with memories={{cartography: …}} to its end")
    if not has_column(folder, fingerprint):
        raise UserError(
            f"{run} did not train on these data, or they have changed since; score the data that the run trained on"
        )
    found = task.begin({"by": CARTOGRAPHY, "values": column_digest(folder, fingerprint)}, COLUMNS)
    for ids in task.mine(found):
        columns = {name: read_values(folder, fingerprint, name, ids) for name in COLUMNS}
        seen = sorted(columns["count"])
        values = {name: [by_id[id].item() for id in seen] for name, by_id in columns.items()}
        task.write(found, ids, COLUMNS, [(seen, values)])
    return task.finish(found)
