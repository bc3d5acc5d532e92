"""Each option of an objective is explained, and its stated bounds are those that are checked."""

from dataclasses import fields

import pytest

from tercet.configs.about import Option
from tercet.errors import UserError
from tercet.models.losses import Objective, build_objective, objective
from tercet.models.losses.about import about
from tercet.models.losses.objective import objective_class, objective_names
from tercet.models.term_config import ObjectiveConfig

BUILT_IN = [name for name in objective_names() if objective_class(name).__module__.startswith("tercet.")]


def options(name: str) -> dict[str, Option]:
    return {option.name: option for _, group in about(name).options for option in group}


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_objective_says_what_it_does_where_that_is_from_and_what_its_options_mean(name: str) -> None:
    one = about(name)
    assert 20 < len(one.summary) < 80
    assert any(year in one.source for year in map(str, range(2000, 2030)))
    assert "Shapes: " not in one.text
    assert {option.name: option.default for option in options(name).values()} == {
        field.name: field.default for field in fields(objective_class(name))
    }
    assert [option.name for option in options(name).values() if not option.meaning] == []


@pytest.mark.parametrize(
    ("name", "option", "allowed", "refused", "accepted"),
    [
        ("infonce", "smoothing", "number, at least 0, below 1", 1.0, 0.0),
        ("infonce", "top_k", "whole number, above 0 | null", 0, None),
        ("decoupled", "sigma", "number, above 0 | null", 0, 0.1),
        ("isogclr", "gamma", "number, above 0, at most 1", 1.1, 1),
        ("cwcl", "kernel", "linear | sharp", "blunt", "sharp"),
        ("isogclr", "temperatures", "[number, number]", [0.1], [0.001, 0.2]),
        ("matryoshka", "dims", "[whole number, …]", ["x"], [2, 4]),
        ("poly_view", "own_view", "true | false", "perhaps", False),
        ("graded", "value", "text", 3, "score"),
    ],
)
def test_the_stated_bounds_are_those_that_are_checked(
    name: str, option: str, allowed: str, refused: object, accepted: object
) -> None:
    assert options(name)[option].allowed == allowed
    with pytest.raises(UserError, match=rf"{option}"):
        build_objective(ObjectiveConfig.model_validate({"name": name, option: refused}))
    build_objective(ObjectiveConfig.model_validate({"name": name, option: accepted}))


def test_own_options_come_first_and_a_changed_default_keeps_its_description() -> None:
    headings = [heading for heading, _ in about("macl").options]
    assert headings == ["Options", "Options of all softmax objectives", "Options of all objectives"]
    assert [option.name for option in about("macl").options[0][1]] == ["alpha", "alignment"]
    assert options("macl")["bounds"].default == (10.0, 10.0)
    assert options("macl")["bounds"].meaning == options("infonce")["bounds"].meaning
    assert options("macl")["scale"].meaning != options("infonce")["scale"].meaning


def test_an_objective_without_descriptions_is_explained_as_far_as_it_goes() -> None:
    @objective("terse")
    class Terse(Objective):
        """InfoNCE (again). More."""

        power: int = 2

    one = about("terse")
    assert (one.summary, one.source) == ("InfoNCE (again)", "")
    assert one.options[0] == ("Options", [Option("power", 2, "whole number", "")])
