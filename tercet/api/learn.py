"""`tercet curate learn`: scores of pairs that are learned from what helps on a target set (FLYT and M-FLYT)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.api.data import Data, looked_at
from tercet.api.embed import check_folder
from tercet.api.model import Loadable, load, name_of
from tercet.configs.base import build
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.eval.embedding.embed_data import embed_data
from tercet.training.flyt.config import LearnConfig
from tercet.training.flyt.group import learn_group


@dataclass(frozen=True)
class LearnedScores:
    """The group of scores, how many rows it has, the loss on the target at the first and the last step, and the weights
    of a mixture."""

    group: Path
    rows: int
    losses: tuple[float, float]
    weights: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {"group": str(self.group), "rows": self.rows, "losses": self.losses, "weights": dict(self.weights)}

    def __str__(self) -> str:
        first, last = self.losses
        mixed = [f"{column}: {weight:+.3f}" for column, weight in self.weights.items()]
        return "\n".join([*mixed, f"loss on the target: {first:.3f} → {last:.3f}", f"{self.group}: {self.rows:,} rows"])


def learn(model: Loadable, data: Data, target: Data, out: str | os.PathLike[str], **options: Any) -> LearnedScores:
    """Learns to score the pairs of `data`, and writes the scores to the score table `out`.

    `target`: pairs that are like those that a model should become good at. `options` are those of `LearnConfig`.
    """
    check_folder(out)
    config = build(LearnConfig, options, lambda key: "learn")
    (given, split), (aim, aim_split) = (_only(model, one) for one in (data, target))
    with joined() as world:
        if world.size > 1:
            raise UserError(
                f"scores are learned in one process, and these are {world.size}; start it without a launcher"
            )
        source = OpenedSources().open_first(given, split, world)
        table = ScoreTable.begin(Path(out), TableSource.of(source, split.source, config.source))
        towers = load(model, world.device).towers
        stores = [embed_data(towers, *one, world) for one in ((given, split), (aim, aim_split))]
        found = learn_group(ScoreTask(table, config.source, config.name, source, world), config, *stores)
        return LearnedScores(found.group.folder, found.group.rows(config.source), found.losses, found.weights)


def _only(model: Loadable, data: Data) -> tuple[DataConfig, SplitConfig]:
    given = looked_at(name_of(model), data)
    if len(given.val) != 1:
        raise UserError(f"only one data set can be scored at a time, and these are {len(given.val)}")
    (split,) = given.val.values()
    return given, split
