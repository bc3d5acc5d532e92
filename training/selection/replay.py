"""Repeats the selection of another run, on another number of processes or with another setting."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from tercet.errors import RankError, UserError
from tercet.training.selection.record import SELECTED, Selected, read_selected
from tercet.training.selection.rule import SelectionRule, SuperBatch, selection_rule
from tercet.training.selection.strata import Kept


@selection_rule("replay")
class ReplaySelection(SelectionRule):
    """Selects the samples that the run in the folder `run` kept. Needs the same data, seed, batch size and ratio."""

    run: str

    def __post_init__(self) -> None:
        if not self._path.is_file():
            raise UserError(
                f"selection.run: there is no {self._path}; name the folder of a run that recorded its selection"
            )

    def choose(self, drawn: SuperBatch) -> Kept:
        selected, places, ids = self._selected(drawn.step + 1), drawn.places, drawn.batch.ids
        kept_N = selected.kept()
        kept_n, before = kept_N[places.start : places.stop], int(kept_N[: places.start].sum())
        place_k = torch.from_numpy(np.flatnonzero(kept_n)).to(ids.device)
        if ids[place_k].tolist() != selected.ids[before : before + len(place_k)]:
            raise RankError(
                f"selection.run: step {selected.step} of {self.run} drew other samples; set the same data, seed, "
                "batch_size and filter_ratio"
            )
        return Kept(place_k)

    def _selected(self, step: int) -> Selected:
        """The selection of a step. Call it with ascending steps only."""
        for selected in self._lines:
            if selected.step == step:
                return selected
        raise UserError(
            f"selection.run: {self.run} recorded no selection of step {step}; train no more steps than it did"
        )

    @cached_property
    def _lines(self) -> Iterator[Selected]:
        return read_selected(self._path)

    @property
    def _path(self) -> Path:
        return Path(self.run) / SELECTED
