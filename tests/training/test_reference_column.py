"""A selection whose reference is a column: the vectors of the model, by sample, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tercet.api.vector_column import embed_column
from tercet.configs.base import build
from tercet.data_pipelines.columns import column_files
from tercet.data_pipelines.open import open_loader
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import RankFailed, on_ranks
from tercet.training.config import RunConfig
from tercet.training.memory.memory import StageContext
from tercet.training.preflight.checks import dry_run
from tercet.training.pretrained import load_model
from tercet.training.selection import reference
from tercet.training.selection.reference_column import ColumnReference
from tests.training.test_resume import run_all
from tests.training.test_selection import selected
from tests.training.tiny import losses, recipe, run, saved

FIELDS = ("image", "audio", "text")


@pytest.fixture(scope="module")
def references(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, and its vectors."""
    out = tmp_path_factory.mktemp("reference")
    on_ranks(run_all, 1, [(recipe(world_folder, out / "run", steps=2, seed=9), None)])
    embed_column(str(out / "run"), str(world_folder / "train"), out / "vectors")
    return out


def selecting(data: Path, out: Path, references: Path, changes: dict[str, Any], **options: Any) -> dict[str, Any]:
    vectors = str(references / "vectors")
    selection = {"name": "jest", "filter_ratio": 0.75, "strata": 2, "n_chunks": 4, "reference_vectors": vectors}
    return recipe(data, out, **{"steps": 5, "selection": selection | options} | changes)


def opened(data: Path, out: Path, references: Path) -> tuple[StageContext, Batch]:
    """A stage over the data, and its first batch, of centre crops and whole sounds."""
    config = RunConfig.model_validate(selecting(data, out, references, {}))
    model = load_model(str(references / "run"))
    loader = open_loader(config.data, model.intakes, 64, 0, World(), {}, out)
    context: Any = StageContext(config, None, 16, loader.plan, loader.sources, World(), {})  # type: ignore[arg-type]
    return context, next(iter(loader))


def test_vectors_are_those_of_the_model(world_folder: Path, references: Path, tmp_path: Path) -> None:
    """Pictures without a crop, the sounds that are no longer than a crop, and the very captions that were drawn."""
    context, batch = opened(world_folder, tmp_path, references)
    found = ColumnReference(str(references / "vectors"), None, FIELDS, context)
    model = load_model(str(references / "run"))
    assert found.model is None
    by_field = found.vectors(batch)
    assert by_field.keys() == set(FIELDS)
    for name, vectors in by_field.items():
        with torch.no_grad():
            expected = model.embed_field(batch.fields[name])
        assert len(vectors) == len(batch.fields[name]) > 0
        assert float((vectors - expected).norm(dim=1).median()) < 2e-3, name
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    with torch.no_grad():
        scale, _ = model.head.temperature("image-text")
    assert found.temperature("text", "image", "softmax").scale == pytest.approx(float(scale))


def test_the_model_is_not_loaded_and_keeps_what_the_model_keeps(
    world_folder: Path, references: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_model = {"reference_vectors": None, "reference": str(references / "run")}
    run(World(), selecting(world_folder, tmp_path / "model", references, {}, **by_model))
    monkeypatch.setattr(reference, "load_once", lambda spec, world: pytest.fail("the model was loaded"))
    run(World(), selecting(world_folder, tmp_path / "column", references, {}))
    first, second = selected(tmp_path / "model")[0], selected(tmp_path / "column")[0]
    assert len(set(first["ids"]) & set(second["ids"])) >= 13, "of 16: vectors are rounded to fp16"


@pytest.mark.parametrize(
    ("processes", "changes"),
    [(1, {"zero": 0}), pytest.param(2, {"zero": 3, "micro_batch": 5}, marks=pytest.mark.long)],
)
def test_a_resumed_run_keeps_the_same_samples_and_refuses_changed_columns(
    processes: int, changes: dict[str, Any], world_folder: Path, references: Path, tmp_path: Path
) -> None:
    vectors = tmp_path / "vectors"
    embed_column(str(references / "run"), str(world_folder / "train"), vectors)
    options = {"reference_vectors": str(vectors)}
    whole = selecting(world_folder, tmp_path / "whole", references, changes, **options)
    parts = selecting(world_folder, tmp_path / "parts", references, changes | {"checkpoint": {"every": 2}}, **options)
    broken = selecting(world_folder, tmp_path / "broken", references, changes | {"checkpoint": {"every": 2}}, **options)
    on_ranks(run_all, processes, [(whole, None), (parts, 3), (parts, None), (broken, 3)])
    assert selected(tmp_path / "whole") == selected(tmp_path / "parts")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    one, other = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    (path,) = column_files(vectors, next(iter((vectors).glob("*/"))).name)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        RankFailed, match=r"selection.reference_vectors: .*vectors has other vectors than when this run"
    ):
        on_ranks(run_all, processes, [(broken, None)])


def test_a_later_stage_may_read_other_vectors(world_folder: Path, references: Path, tmp_path: Path) -> None:
    """Those of other data in the same folder, and those of another model."""
    train, val = str(world_folder / "train"), str(world_folder / "val")
    vectors, others, model = tmp_path / "vectors", tmp_path / "others", tmp_path / "model"
    on_ranks(run_all, 1, [(recipe(world_folder, model, steps=1, seed=3), None)])
    embed_column(str(references / "run"), train, vectors)
    embed_column(str(references / "run"), val, vectors)
    embed_column(str(model), val, others)
    other_data, other_model = {"data.train": val}, {"selection.reference_vectors": str(others)}
    stages = [
        {"name": name, "steps": 1, "set": changes}
        for name, changes in (("first", {}), ("data", other_data), ("model", other_data | other_model))
    ]
    options = {"reference_vectors": str(vectors), "filter_ratio": 0.5, "strata": 1}
    run(World(), selecting(world_folder, tmp_path / "run", references, {"steps": 3, "stages": stages}, **options))
    assert len(selected(tmp_path / "run")) == 3


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as refused:
        run(World(), values)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_columns_lack_is_refused_in_one_line(world_folder: Path, references: Path, tmp_path: Path) -> None:
    def changed(name: str, changes: dict[str, Any], **options: Any) -> dict[str, Any]:
        return selecting(world_folder, tmp_path / name, references, changes, **options)

    held_out = {"train": {"source": str(world_folder / "train"), "part": [0.25, 1]}, "crop": None, "worker": "thread"}
    assert refusal(changed("part", {"data": held_out})) == (
        f"selection.reference_vectors: {references}/vectors has no vectors of the source `train` as this run reads it; "
        f"add them: tercet embed {references}/run --data {world_folder}/train part=[0.25,1.0] --format column --out "
        f"{references}/vectors"
    )
    crops = {"fields": {"image.local": {"from": "image"}}, "pairs": {"image.local-text": 1.0, "image-text": 1.0}}
    assert refusal(changed("field", crops)).startswith(
        f"selection.reference_vectors: {references}/vectors has no vectors of `image.local`: they hold one vector of "
        f"each modality. Set selection.reference to {references}/run, too"
    )
    run(World(), changed("both", crops | {"steps": 1}, reference=str(references / "run")))
    on_ranks(run_all, 1, [(recipe(world_folder, tmp_path / "other", steps=1, seed=3), None)])
    assert "whose weights differ from those of selection.reference" in refusal(
        changed("weights", crops, reference=str(tmp_path / "other"))
    )
    stream = {"data": {"train": str(world_folder / "train"), "crop": None, "mode": "stream", "window": 8}}
    for values, message in (
        (changed("stream", stream), "vectors are read by sample ids, which a stream lacks; set data.mode=index"),
        (changed("gone", {}, reference_vectors=str(tmp_path)), "has no vectors.json; write it: tercet embed"),
    ):
        with pytest.raises(UserError, match=message):
            dry_run(build(RunConfig, values, lambda key: "recipe"))
