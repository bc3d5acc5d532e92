"""The recipe key `memories`: how it is written, what it refuses, and that it is read without torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tercet.configs.base import build
from tercet.errors import UserError
from tercet.models.interop.pretrained import described
from tercet.training.checkpoints.reader import Saved
from tercet.training.config import RunConfig
from tercet.training.memory.config import EmaConfig
from tercet.training.memory.names import offers
from tercet.training.preflight.complete import complete
from tercet.training.recipe import dump, load_recipe
from tests.training.tiny import recipe


def made(**changes: Any) -> RunConfig:
    values = recipe(Path("shards"), Path("out"), **changes)
    return build(RunConfig, {key: value for key, value in values.items() if value is not None}, lambda key: "recipe")


def test_ema_is_short_for_a_memory() -> None:
    assert made(ema=0.9).all_memories == {"ema": EmaConfig(kind="ema", decay=0.9)}
    assert made(ema=None, memories={"ema": {"decay": 0.9}}).all_memories == made(ema=0.9).all_memories
    assert made(ema=None).all_memories == {}
    assert made(ema=None, memories={"ema": None}).all_memories == {}, "null takes away what a recipe extends"


def test_a_recipe_with_memories_loads_back_equal(tmp_path: Path) -> None:
    config = made(ema=None, memories={"ema": {"decay": 0.99}})
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load_recipe(str(tmp_path / "again.yaml")) == config
    assert config.stage(0).all_memories == config.all_memories


@pytest.mark.parametrize(
    ("memories", "message"),
    [
        ({"eam": {}}, r"recipe: `memories.eam.kind` is an unknown memory `eam`; did you mean `ema`"),
        ({"ema": {"decoy": 0.9}}, r"`memories.ema.decoy` is not an option of the memory `ema`; did you mean `decay`"),
        ({"ema": {"decay": 2}}, r"`memories.ema.decay` is `2`, but should be less than 1"),
        ({"ema": 0.9}, r"`memories.ema` is `0.9`, but should be a mapping of keys"),
        ({"slow": {"kind": "ema"}}, r"`memories.slow` is an average of the weights; .* name it `ema`"),
        ({"text": {"kind": "ema"}}, r"`memories.text` has the name of a modality"),
        ({"a/b": {"kind": "ema"}}, r"`memories.a/b` is not a valid name"),
        ({"queue": {}}, r"`memories.queue.fields` is missing: the fields whose vectors are kept"),
        ({"queue": {"fields": []}}, r"`memories.queue.fields` is `\[\]`, but should not be empty"),
        ({"queue": {"fields": ["txet"]}}, r"`memories.queue.fields` `txet` is not trained; did you mean `text`"),
        ({"queue": {"fields": ["text"], "size": 0}}, r"`memories.queue.size` is `0`, but should be greater than 0"),
        (
            {"cartography": {"term": "text"}},
            r"`memories.cartography.term` `text` is not trained; known: audio",
        ),
        (0.9, r"`memories` is `0.9`, but should be a mapping of keys"),
    ],
)
def test_mistakes_are_errors_of_one_line(memories: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        made(ema=None, memories=memories)
    assert "\n" not in str(caught.value)


def test_ema_set_in_two_places_is_refused() -> None:
    with pytest.raises(UserError, match=r"`ema` and `memories.ema` are both given; keep one of them"):
        made(ema=0.9, memories={"ema": {}})


def test_against_a_name_that_no_memory_offers_is_refused() -> None:
    """The check is that of the recipe, before there is a model."""
    against = {"text": ["queue.image"]}
    assert offers(made(memories={"queue": {"fields": ["image", "text"]}}).memories) == ["queue.image", "queue.text"]
    assert offers(made(memories={"bank": {"kind": "queue", "fields": ["image"]}}).memories) == ["bank.image"]
    for memories, message in (
        ({}, r"`against.text` of image-text has `queue.image`, which no memory offers; add a memory"),
        ({"queue": {"fields": ["text"]}}, r"has `queue.image`, which no memory offers; .*queue.text"),
        ({"quue": {"kind": "queue", "fields": ["image"]}}, r"no memory offers; did you mean `quue.image`\?"),
    ):
        with pytest.raises(UserError, match=message):
            made(memories=memories, against=against)


def test_a_memory_that_needs_stable_ids_refuses_a_stream() -> None:
    data = {"train": "shards/train", "mode": "stream"}
    with pytest.raises(UserError, match=r"`memories.cartography` needs stable sample ids, .* set data.mode=index"):
        made(data=data, memories={"cartography": {}})
    made(data=data, memories={"queue": {"fields": ["text"]}})


def test_the_config_of_memories_imports_no_torch() -> None:
    program = "import sys, tercet.training.config; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"step": 3}')
    save_file({"weight/a": torch.ones(2), "exp_avg/a": torch.ones(2)}, tmp_path / "rank_00000.safetensors")
    with pytest.raises(
        UserError, match=r"written by an earlier version of tercet \(it has a tensor named `exp_avg/a`\)"
    ):
        Saved(tmp_path)


def test_extra_negatives_are_not_taken_from_init() -> None:
    """Those of `init` need memories that the new run may not have."""
    queue = {"memories": {"queue": {"fields": ["image"]}}, "against": {"text": ["queue.image"]}}
    written_out = {"pairs": None, "terms": [{"between": ["image", "text"], "against": {"text": ["queue.image"]}}]}
    for before in (made(**queue), made(**queue | {"against": None} | written_out)):
        found = described("x", before, dict)
        assert not any(term.against for term in complete(made(init="x", pairs=None), found).terms)
    found = described("x", made(**queue), dict)
    bank = {"memories": {"bank": {"kind": "queue", "fields": ["text"]}}, "against": {"image": ["bank.text"]}}
    assert complete(made(init="x", pairs=None, **bank), found).terms[0].against == {"image": ("bank.text",)}


def test_a_stage_may_add_extra_negatives() -> None:
    stages = [{"name": "plain", "steps": 3}, {"name": "queued", "steps": 3, "set": {"against.text": ["queue.image"]}}]
    config = made(steps=None, stages=stages, memories={"queue": {"fields": ["image"]}})
    assert [config.stage(index).terms[0].against for index in (0, 1)] == [{}, {"text": ("queue.image",)}]
