"""The recipes of the pages about fields, as they are written there."""

import re
from pathlib import Path
from typing import Any

import yaml

from tercet.models.losses import build_term
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.recipe import load_recipe
from tests.training.conftest import world_folder as world_folder
from tests.training.test_resume import run_all
from tests.training.tiny import losses, recipe

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.+?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_of_a_field_trains(world_folder: Path, tmp_path: Path) -> None:
    (block,) = [block for block in blocks("architecture.md") if block.startswith("# crops.yaml")]
    (tmp_path / "crops.yaml").write_text(block, encoding="utf-8")
    written = load_recipe(str(tmp_path / "crops.yaml")).model_dump(mode="json")
    changes: dict[str, Any] = {key: written[key] for key in ("fields", "terms")}
    changes["fields"]["image.local"]["size"] = 16  # the tower of tests takes 32 as the whole picture
    tiny = recipe(world_folder, tmp_path / "run", steps=3, pairs={}, **changes)
    on_ranks(run_all, 1, [(tiny, None)])
    assert len(losses(tmp_path / "run")) == 3


def test_the_blocks_of_the_page_about_fields_form_a_valid_recipe() -> None:
    """The blocks fit together: fields, numbers of samples, terms that use fields, sums or tokens, and extra
    negatives."""
    fields, views, _, numbers, terms, sums, _, tokens, _, negatives = map(yaml.safe_load, blocks("fields.md"))
    base = load_recipe("image_text", ["data.train=shards"]).model_dump(mode="json")
    sounds = load_recipe("audio_text", ["data.train=shards"]).model_dump(mode="json")
    plain, plain_sounds = (
        {key: value for key, value in whole.items() if key not in ("pairs", "objective", "terms")}
        for whole in (base, sounds)
    )
    config = RunConfig.model_validate(plain | fields | terms)
    assert [term.name for term in config.terms] == ["image-text", "image-text.rewrite", "image.local-text"]
    (products,) = RunConfig.model_validate(plain | sums).terms
    assert products.fields == ("image", "text", "text.title")
    crops = {"terms": [{"between": ["image.strong", "text.strong"]}, {"between": ["image", "text.weak"]}]}
    assert len(RunConfig.model_validate(plain | views | crops).fields) == 3
    config = RunConfig.model_validate(plain_sounds | tokens)
    assert [build_term(term).tokens(term.between) for term in config.terms] == [(), ("audio", "text")]
    numbers["data"] |= plain["data"]
    graded = RunConfig.model_validate(plain | numbers | {"pairs": {"image-text": 1.0}})
    assert graded.terms[0].objective.name == "graded"
    config = RunConfig.model_validate(plain | negatives)
    assert config.terms[0].against == {"image": ("text.negative",), "text": ("queue.image",)}


def test_the_example_of_masks_is_a_valid_recipe(tmp_path: Path) -> None:
    (block,) = [block for block in blocks("fields.md") if block.startswith("# regions.yaml")]
    (tmp_path / "regions.yaml").write_text(block, encoding="utf-8")
    config = load_recipe(str(tmp_path / "regions.yaml"))
    assert config.model.towers["image"].alpha
    assert config.data.train["train"].roles.files == (("alpha", "mask"),)
    assert config.data.train["train"].captions == {"json.masked": 0, "txt": 1}, "the text column has them"


def test_the_example_of_a_projector_is_a_valid_recipe(tmp_path: Path) -> None:
    (block,) = [block for block in blocks("fields.md") if block.startswith("# views.yaml")]
    (tmp_path / "views.yaml").write_text(block, encoding="utf-8")
    terms = load_recipe(str(tmp_path / "views.yaml"), ["data.train=shards"]).terms
    assert [term.projector_name for term in terms] == ["", "views", "views"]
    assert [term.vectors_of(term.between[0]) for term in terms] == ["image", "image.one@views", "image.one@views"]


def test_the_example_of_stored_vectors_is_a_valid_recipe(tmp_path: Path) -> None:
    (block,) = [block for block in blocks("fields.md") if block.startswith("# unpaired.yaml")]
    (tmp_path / "unpaired.yaml").write_text(block, encoding="utf-8")
    fields = load_recipe(str(tmp_path / "unpaired.yaml")).fields
    memory = fields["text.retrieved"].among
    assert memory is not None
    assert (memory.features, memory.temperature, memory.nearest) == ("stored/foreign", 0.01, 1000)
    assert fields["image.retrieved"].source == "image.english"


def test_the_example_of_sources_of_different_modalities_is_valid(tmp_path: Path) -> None:
    (block,) = [block for block in blocks("mixing.md") if "text.positive" in block]
    (tmp_path / "tasks.yaml").write_text(f"extends: image_text\n{block}", encoding="utf-8")
    config = load_recipe(str(tmp_path / "tasks.yaml"))
    assert [*config.data.train] == ["pictures", "texts"]
    assert [term.name for term in config.terms] == ["image-text", "text-text.positive"]
