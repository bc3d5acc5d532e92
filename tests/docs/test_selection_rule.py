"""The selection rule of docs/architecture.md, from the page to a run that trains on what it keeps."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.plugins import load_plugins
from tercet.testing import on_ranks
from tercet.training.loop.stage import Chosen
from tercet.training.selection.select import Selection
from tests.training.conftest import world_folder as world_folder
from tests.training.tiny import losses, recipe, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
STRATUM, KEPT, ENOUGH = 16, 8, 9


def test_the_rule_keeps_the_longest_captions(world_folder: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(# long_captions\.py.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    plugin = tmp_path / "long_captions.py"
    plugin.write_text(block, encoding="utf-8")
    selection = {"name": "long_captions", "filter_ratio": 0.5, "enough": ENOUGH}
    values = recipe(world_folder, tmp_path / "run", steps=3, selection=selection)
    (steps,) = on_ranks(train_with, 1, plugin, values)
    assert len(steps) == len(losses(tmp_path / "run")) == 3
    for lengths, ids, kept in steps:
        assert min(lengths) < ENOUGH < max(lengths), "the rule has a choice, and its option a meaning"
        wanted = []
        for first in range(0, len(ids), STRATUM):
            places = range(first, first + STRATUM)
            ranked = sorted(places, key=lambda place: -min(lengths[place], ENOUGH))
            wanted += [ids[place] for place in sorted(ranked[:KEPT])]
        assert kept == wanted


def train_with(world: World, plugin: Path, values: dict[str, Any]) -> list[tuple[list[int], list[int], list[int]]]:
    """Of each step: the tokens of each drawn caption, the drawn ids and the kept ones."""
    load_plugins([plugin])
    steps, select = [], Selection.__call__

    def watched(self: Selection, drawn: Batch, step: int) -> Chosen:
        chosen = select(self, drawn, step)
        lengths = [0] * len(drawn)
        for item, row in zip(drawn.fields["text"].item.tolist(), drawn.fields["text"].values.tolist(), strict=True):
            lengths[item] = sum(token != 0 for token in row)
        steps.append((lengths, drawn.ids.tolist(), chosen.batch.ids.tolist()))
        return chosen

    with patch.object(Selection, "__call__", watched):
        run(world, values)
    return steps
