"""Recipes: they extend each other, load back equal, and every mistake is one line."""

import shlex
from pathlib import Path

import pytest

from tercet.configs.catalogue import recipe_names, summary
from tercet.errors import UserError
from tercet.training.config import RunConfig
from tercet.training.recipe import dump, load_recipe

STAGES = (
    "stages=[{name: a, steps: 3},"
    " {name: b, steps: 4, set: {optimizer.lr: 3, pairs.image-audio: 0, objective: sigmoid}}]"
)
TERMS = "terms=[{between: [image, text]}]"
MISTAKES = (Path(__file__).parent / "mistakes.txt").read_text(encoding="utf-8").strip().split("\n\n")


def written(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def message(recipe: str | Path, *overrides: str) -> str:
    with pytest.raises(UserError) as refused:
        load_recipe(str(recipe), overrides)
    return str(refused.value)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_summary_and_loads_back_equal(name: str, tmp_path: Path) -> None:
    config = load_recipe(name)
    assert 10 < len(summary(name)) < 70
    written(tmp_path, again=dump(config))
    assert load_recipe(str(tmp_path / "again.yaml")) == config


@pytest.mark.parametrize(
    "override",
    [STAGES, "data.crop=null", "data.val=null", "model.text.options={depth: 2}", "objective=sigmoid", TERMS],
)
def test_overridden_recipes_load_back_equal(override: str, tmp_path: Path) -> None:
    config = load_recipe("image_text" if "crop" in override else "demo", [override])
    assert config not in (load_recipe("image_text"), load_recipe("demo"))
    written(tmp_path, again=dump(config))
    assert load_recipe(str(tmp_path / "again.yaml")) == config


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_of_one_line_that_says_how_to_fix_it(mistake: str) -> None:
    command, answer = mistake.splitlines()
    _, _, recipe, *overrides = shlex.split(command)
    assert message(recipe, *overrides) == answer


def test_an_error_names_the_file_with_the_mistake(tmp_path: Path) -> None:
    written(tmp_path, base="extends: demo\nbatchsize: 3\n", own="extends: base.yaml\nzero: 2\n", broken="steps: [1\n")
    assert message(tmp_path / "own.yaml") == "base.yaml: unknown key `batchsize`; did you mean `batch_size`?"
    assert message(tmp_path / "own.yaml", "zero=7").startswith("base.yaml: unknown key")
    assert message(tmp_path / "own.yaml", "zero=7").endswith("(and 1 more)")
    assert message(tmp_path / "broken.yaml").startswith("broken.yaml, line 2: not valid YAML: ")
    written(tmp_path, least="pairs: {image-text: 1}\n")
    assert message(tmp_path / "least.yaml") == "least.yaml: `data` is missing"


def test_unknown_recipes_and_cycles_are_refused(tmp_path: Path) -> None:
    assert message("dmeo") == "unknown recipe `dmeo`; did you mean `demo`?"
    assert message("nowhere/x.yaml").startswith("nowhere/x.yaml is neither a recipe file nor the folder of a run;")
    written(tmp_path, a="extends: b.yaml\n", b="extends: a.yaml\n", c="extends: trimodl\n")
    assert message(tmp_path / "a.yaml") == "a.yaml: `extends` forms a cycle: a.yaml → b.yaml → a.yaml"
    unknown = "unknown recipe `trimodl`; did you mean `trimodal`?"
    assert message(tmp_path / "c.yaml") == f"c.yaml: `extends: trimodl`: {unknown}"


def test_extending_merges_and_names_the_run_after_its_own_file(tmp_path: Path) -> None:
    written(tmp_path, mine="extends: demo\noptimizer: {lr: 3e-4}\npairs: {image-audio: 0}\n")
    config, demo = load_recipe(str(tmp_path / "mine.yaml")), load_recipe("demo")
    assert config.name == "mine"
    assert config.optimizer == demo.optimizer.model_copy(update={"lr": 3e-4})
    assert [term.name for term in config.terms] == ["image-text", "audio-text"]
    assert config.model == demo.model


def test_pairs_become_terms_with_the_runs_objective() -> None:
    config = load_recipe("trimodal", ["objective={name: sigmoid, smoothing: 0.1}", "pairs.image-audio=0.25"])
    assert [(term.between, term.weight) for term in config.terms] == [
        (("image", "text"), 1.0), (("audio", "text"), 1.0), (("image", "audio"), 0.25),
    ]  # fmt: skip
    assert {term.objective.name for term in config.terms} == {"sigmoid"}
    bare = load_recipe("demo", ["terms=[{between: [image, text], objective: sigmoid}]"])
    assert bare.terms[0].objective.name == "sigmoid"


def test_pairs_and_terms_in_one_file_are_refused(tmp_path: Path) -> None:
    written(tmp_path, both="extends: demo\npairs: {image-text: 1}\nterms: [{between: [image, text]}]\n")
    assert "`terms` and `pairs` are both set" in message(tmp_path / "both.yaml")
    assert "`objective` belongs to `pairs`" in message("demo", TERMS, "objective=sigmoid")


def test_a_stage_is_a_complete_run_with_its_own_keys() -> None:
    config = load_recipe("demo", [STAGES])
    first, second = config.stage(0), config.stage(1)
    assert (config.steps, first.steps, second.steps) == (7, 3, 4)
    assert first == load_recipe("demo", ["steps=3"])
    assert second == load_recipe("demo", ["steps=4", "optimizer.lr=3", "pairs.image-audio=0", "objective=sigmoid"])
    assert isinstance(load_recipe("demo").stage(0), RunConfig)
    assert "`steps` is 9, but the stages add up to 7; remove `steps`" in message("demo", STAGES, "steps=9")


def test_a_stream_refuses_keep_and_randaugment_refuses_threads() -> None:
    with pytest.raises(UserError, match=r"`data\.keep` needs `mode: index`, because a stream does not repeat"):
        load_recipe("image_text", ["data.keep=true", "data.crop=null", "data.mode=stream"])
    policy = "data.augment.image.randaugment=rand-m9-n2"
    with pytest.raises(UserError, match=r"`data\.augment\.image\.randaugment` .* set `workers: 0`"):
        load_recipe("image_text", [policy, "data.mode=stream"])
    load_recipe("image_text", [policy, "data.mode=stream", "data.workers=0"])


def test_samples_kept_in_memory_cannot_have_random_crops() -> None:
    with pytest.raises(UserError, match=r"`data\.keep` cannot keep random crops; set `crop"):
        load_recipe("image_text", ["data.keep=true", "data.crop=[0.5, 1.0]"])
