"""The page about objectives: its tables are those of the registry, and its blocks run as they are written."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from torch.nn.functional import normalize

from tercet.configs.about import Option
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.distributed import World
from tercet.errors import UserError
from tercet.modality import of_memory
from tercet.models.losses import build_objective
from tercet.models.losses.about import about
from tercet.models.losses.objective import Objective, objective_class, objective_names
from tercet.models.losses.softmax import Softmax
from tercet.models.term_config import TermConfig
from tercet.plugins import load_plugins
from tercet.testing import EXAMPLES, Example, check_objective, on_ranks
from tercet.training.recipe import load_recipe
from tests.training.test_resume import run_all
from tests.training.tiny import losses, recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE, README = (Path(ROOT, name).read_text(encoding="utf-8") for name in ("docs/objectives.md", "README.md"))
BUILT_IN = {name for name in objective_names() if objective_class(name).__module__.startswith("tercet.")}
WORLD = WorldConfig(
    train=32, val=0, combinations=0, size=32, seconds=0.5, samples_per_shard=16, workers=1,
    partly_wrong=0.3, languages={"de": 0, "fr": 0.2}, grades=3,
)  # fmt: skip


def table(heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without its two head lines."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[2:]]


def block(name: str) -> str:
    (found,) = re.findall(rf"```\w+\n(# {re.escape(name)}.+?)```", PAGE, re.DOTALL)
    return str(found)


def test_every_objective_has_one_row_with_its_source() -> None:
    rows = table("Which one")
    assert all(len(row) == 6 and all(row) for row in rows)
    assert len(rows) == len(BUILT_IN)
    assert {row[0].strip("`"): row[-1] for row in rows} == {name: about(name).source for name in BUILT_IN}


def accepts(name: str, **term: Any) -> bool:
    options = EXAMPLES.get(name, Example()).options
    try:
        config = TermConfig.model_validate({"objective": {"name": name, **options}, **term})
        built = build_objective(config.objective)
        built.check(config)
    except (UserError, ValidationError):
        return False
    return len(config.between) >= built.fewest


def test_the_table_of_what_a_term_may_have_is_what_is_checked() -> None:
    rows = {row[0].strip("`"): row[1:] for row in table("What a term may have")}
    assert rows.keys() == BUILT_IN
    usual = ("image", "text", "audio", "text.more")
    for name, (counts, against, directions, *_) in rows.items():
        between = EXAMPLES.get(name, Example()).between
        names = (*between, "text", "audio") if any(map(of_memory, between)) else usual
        accepted = {count for count in (1, 2, 3, 4) if accepts(name, between=names[:count])}
        least = int(counts[0])
        assert accepted == ({count for count in (1, 2, 3, 4) if count >= least} if "more" in counts else {least}), name
        between = names[: min(accepted)]
        assert accepts(name, between=between, against={"image": ["text.negative"]}) == (against == "yes"), name
        assert accepts(name, between=between, directions={"image": 1}) == (directions == "yes"), name


def option_row(name: str, option: Option) -> str:
    default = option.setting.partition(": ")[2]
    allowed, meaning = option.allowed.replace("|", "or"), option.meaning.replace("|", r"\|")
    return f"| {name} | `{option.name}` | {default} | {allowed} | {meaning} |"


def options_table() -> str:
    """What the section `Options` should be."""
    rows = ["| objective | option | default | values | meaning |", "|---|---|---|---|---|"]
    shared = {field.name: field.default for field in fields(Softmax)}
    for name in sorted(BUILT_IN):
        options = [option for _, group in about(name).options for option in group]
        rows += [option_row(f"`{name}`", one) for one in options if shared.get(one.name, ...) != one.default]
    softmax = {option.name: option for _, group in about("infonce").options for option in group}
    base = [field.name for field in fields(Objective)]
    rows += [option_row("all", softmax[name]) for name in base]
    rows += [option_row("softmax", softmax[name]) for name in shared if name not in base]
    return "\n".join(rows)


def test_the_options_are_those_of_the_classes() -> None:
    assert options_table() in PAGE, f"replace the table of options by:\n\n{options_table()}"


def test_the_page_names_the_softmax_objectives() -> None:
    (named,) = re.findall(r"has those of \*all\*, and (.+?) have those of \*softmax\*", PAGE, re.DOTALL)
    softmax = {name for name in BUILT_IN if issubclass(objective_class(name), Softmax)}
    assert set(re.findall(r"`(\w+)`", named)) == softmax


def test_readme_counts_all_objectives() -> None:
    (count,) = re.findall(r"^\| \[Objectives\]\(docs/objectives\.md\) \| (\d+) \|", README, re.MULTILINE)
    assert int(count) == len(BUILT_IN)


def test_the_combined_recipe_trains(tmp_path: Path) -> None:
    (tmp_path / "combined.yaml").write_text(block("combined.yaml"), encoding="utf-8")
    load_recipe(str(tmp_path / "combined.yaml"))
    written = yaml.safe_load(block("combined.yaml"))
    world = generate(WORLD, tmp_path / "world")
    changes = {key: written[key] for key in ("fields", "terms", "memories")}
    tiny = recipe(world, tmp_path / "run", steps=2, pairs={}, **changes)
    tiny["data"] |= written["data"]
    on_ranks(run_all, 1, [(tiny, None)])
    assert len(losses(tmp_path / "run")) == 2


def test_the_first_recipe_sets_an_option(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(block("mine.yaml"), encoding="utf-8")
    (term,) = load_recipe(str(tmp_path / "mine.yaml")).terms
    assert build_objective(term.objective) == objective_class("decoupled")(sigma=0.5)


def test_the_example_of_an_objective_is_short_and_is_what_it_says(tmp_path: Path) -> None:
    example = block("margin_nce.py")
    assert example.count("\n") <= 40
    (tmp_path / "margin_nce.py").write_text(example, encoding="utf-8")
    found = on_ranks(with_the_example, 1, tmp_path / "margin_nce.py")
    for seen, expected in found[0]:
        assert seen == pytest.approx(expected, rel=1e-12)


def with_the_example(world: World, plugin: Path) -> list[tuple[float, float]]:
    """The loss for each margin, and the same written out: one logit lowered, then the cross entropy."""
    import tercet

    load_plugins([plugin])
    check_objective("margin_nce", by=0.3)
    random = torch.Generator().manual_seed(0)
    x, y = normalize(torch.randn(2, 12, 6, generator=random, dtype=torch.float64), dim=2)
    found = []
    for by in (0.0, 0.3):
        loss = tercet.loss("margin_nce", by=by)(image=x, text=y, scale=torch.tensor(7.0, dtype=torch.float64))
        expected = 0.0
        for one, other in ((x, y), (y, x)):
            for i in range(12):
                logits = [7 * (float(one[i] @ other[j]) - by * (i == j)) for j in range(12)]
                expected += float(torch.tensor(logits, dtype=torch.float64).logsumexp(0)) - logits[i]
        found.append((float(loss), expected / 24))
    return found
