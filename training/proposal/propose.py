"""Looks at the data and the machine, chooses how to train, measures one step, and writes it all as a recipe."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sources.open import open_split
from tercet.training.config import RunConfig
from tercet.training.preflight.complete import inherited
from tercet.training.proposal.choice import Choice
from tercet.training.proposal.choose import Chosen, Reachable, choose_way, training
from tercet.training.proposal.machine import Machine, this_machine
from tercet.training.proposal.pace import Duration, pace_of, running
from tercet.training.proposal.seen import DataSummary, look
from tercet.training.proposal.splits import Splits, held_out, layout_of, splits
from tercet.training.proposal.towers import towers
from tercet.training.proposal.watching import watching
from tercet.training.proposal.weights import given, reachable
from tercet.training.proposal.write import to_yaml
from tercet.training.recipe import load_recipe

NAME = "proposed"


@dataclass(frozen=True)
class Proposal:
    """A recipe, and the facts that it follows from."""

    data: str
    seen: DataSummary
    machine: Machine
    chosen: Chosen
    choices: tuple[Choice, ...]
    pace: Duration

    @property
    def yaml(self) -> str:
        title = self.chosen.way.title
        heading = f"{title[0].upper()}{title[1:]}, for {self.data}"
        why = "; ".join(self.chosen.reasons)
        facts = [f"Data: {self.seen}.", f"Machine: {self.machine}.", f"Way: {why}.", f"Time: {self.pace}."]
        caution = [f"Weights: {self.chosen.caution}."] if self.chosen.caution else []
        return to_yaml([heading, *facts, *caution], self.choices)

    def to_json(self) -> dict[str, Any]:
        chosen = self.chosen
        return {
            "data": {"source": self.data, **self.seen.to_json()},
            "machine": self.machine.to_json(),
            "way": {"name": chosen.way.title, "extends": chosen.way.recipe, "why": list(chosen.reasons)},
            "caution": chosen.caution,
            "recipe": [choice.to_json() for choice in self.choices],
            "pace": self.pace.to_json(),
        }


def propose(data: str, options: Mapping[str, Any], init: str | None = None) -> Proposal:
    """`options` holds options of the source that the user gave, such as columns; `init` names weights to start from."""
    begins = given(init) if init else reachable
    machine, layout = this_machine(), layout_of(data, options)
    opened = open_split(DataConfig.model_validate({"train": layout.train}), layout.training_split)
    seen = look(opened, data, machine.cores)
    chosen, drafted = draft(layout, seen, machine, begins, init)
    pace = pace_of(inherited(as_config(drafted)), machine)
    return Proposal(data, seen, machine, chosen, (*drafted, *running(pace)), pace)


def draft(
    layout: Splits, seen: DataSummary, machine: Machine, reachable: Reachable, init: str | None = None
) -> tuple[Chosen, list[Choice]]:
    """All choices but those that need a measured step."""
    pairs = round(seen.pairs * (1 - held_out(layout, seen)))
    chosen = choose_way(seen, pairs, machine, reachable, init)
    model, numbers = towers(chosen, seen, machine), training(chosen.way, pairs, machine)
    return chosen, [*_begin(chosen, init), *splits(layout, seen), *model, *numbers, *watching(pairs)]


def _begin(chosen: Chosen, given_init: str | None) -> Iterator[Choice]:
    recipe = chosen.way.recipe
    if recipe is None:
        return
    yield Choice("extends", recipe, f"the base recipe; `tercet recipes show {recipe}` prints it")
    init = given_init or load_recipe(recipe).init
    if init:
        yield Choice("init", init, "as you asked" if given_init else f"the weights that `{recipe}` starts from")


def as_config(choices: Sequence[Choice]) -> RunConfig:
    """The choices as a run: written to a file and read like any recipe."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{NAME}.yaml"
        path.write_text(to_yaml([NAME], choices), encoding="utf-8")
        return load_recipe(str(path), [f"out={folder}"])
