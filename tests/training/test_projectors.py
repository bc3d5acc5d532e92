"""Terms with a projection of their own: gradients against naive losses at every ZeRO stage, one pass of each tower, the
copy of a momentum encoder, and runs that stop and resume."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, normalize

from tercet.benchmarks.gradients.case import Case, make_batch
from tercet.benchmarks.gradients.ours import GradientCase
from tercet.benchmarks.gradients.truth import errors, model_of, worst
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.config import ModelConfig
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks
from tercet.training.checkpoints.reader import fill
from tercet.training.pretrained import load_model, load_weights
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, assert_same_run, losses, recipe

LAYOUT = "rows missing"
SPACE = ModelConfig.model_validate({"dim": 8, "image": MODEL["image"], "text": MODEL["text"]})
PROJECTED: tuple[dict[str, Any], ...] = (
    {"between": ["image", "text"]},
    {"name": "views", "between": ["image", "text.synthetic"], "projector": {"layers": 3, "hidden": 24, "dim": 8}},
    {"name": "plain.two", "between": ["audio", "text"], "projector": {"hidden": 20, "norm": "none", "dim": 12}},
    {"name": "again", "between": ["text", "text.synthetic"], "projector": "views", "weight": 0.5},
    {"name": "one side", "between": ["audio", "image"], "projector": {"layers": 1, "fields": ["audio"]}},
    {"name": "on top", "between": ["image", "text"], "projector": {"input": "vectors", "hidden": 16, "dim": 6}},
)
OPTIONS: dict[str, Any] = {str(term.get("name")): term["projector"] for term in PROJECTED if "projector" in term}


@dataclass(frozen=True)
class ProjectedCase(Case):
    @property
    def terms(self) -> tuple[TermConfig, ...]:
        return tuple(map(TermConfig.model_validate, PROJECTED))


def naive_gradient(case: Case) -> dict[str, Tensor]:
    """Autograd in one process, over projections that are written out."""
    case = replace(case, world=1)
    model = model_of(case, torch.device("cpu"))
    batch = make_batch(model, case, LAYOUT, World())
    total = torch.zeros((), dtype=torch.float64)
    for term in case.terms:
        sides = []
        for name in term.between:
            field = batch.fields[name]
            features = model.tower(field.modality)(*field.inputs)
            z_nd = written_out(model, term, name, field.modality, features).double()
            sides.append(dict(zip(field.item.tolist(), z_nd, strict=True)))
        scale, _ = model.head.temperature(term.name)
        total = total + term.weight * naive_infonce(*sides, batch.groups.tolist(), scale.double())
    total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def written_out(model: Multimodal, term: TermConfig, name: str, modality: str, features: Tensor) -> Tensor:
    known = dict(model.named_parameters())
    weight = known.get(f"head.projections.{modality}.weight")
    joint = normalize(features if weight is None else linear(features, weight), dim=1)
    projector = OPTIONS.get(term.projector_name)
    if projector is None or name not in projector.get("fields", [name]):
        return joint
    prefix = f"head.projectors.{term.projector_name.replace('.', '_')}.mlps.{modality}"
    hidden = joint if projector.get("input") == "vectors" else features
    last = 3 * (projector.get("layers", 2) - 1)
    for place in range(0, last, 3):
        hidden = linear(hidden, known[f"{prefix}.{place}.weight"], known[f"{prefix}.{place}.bias"])
        if projector.get("norm") != "none":
            gain, shift = known[f"{prefix}.{place + 1}.weight"], known[f"{prefix}.{place + 1}.bias"]
            hidden = layer_norm(hidden, hidden.shape[1:], gain, shift)
        hidden = hidden.clamp(min=0)
    return normalize(linear(hidden, known[f"{prefix}.{last}.weight"], known[f"{prefix}.{last}.bias"]), dim=1)


def naive_infonce(x: dict[int, Tensor], y: dict[int, Tensor], groups: list[int], scale: Tensor) -> Tensor:
    items, total = sorted(x.keys() & y.keys()), torch.zeros((), dtype=torch.float64)
    for anchors, keys in ((x, y), (y, x)):
        for i in items:
            others = [j for j in items if j == i or groups[j] != groups[i]]
            logits = torch.cat([scale * (anchors[i] @ keys[j]).reshape(1) for j in others])
            total = total + logits.logsumexp(dim=0) - logits[others.index(i)]
    return total / (2 * len(items))


def recorded(world: World, stages: tuple[int, ...]) -> list[tuple[str, dict[str, Tensor], dict[str, int]]]:
    """The gradients that reach the optimizer, and how often each tower ran."""
    found = []
    for zero in stages:
        bench = GradientCase(world, ProjectedCase(world.size, zero))
        module: Any = bench.engine.module
        for way in ("plain", "cached"):
            passes, hooks = Counter[str](), []
            for modality, tower in module.towers.items():
                hooks.append(tower.register_forward_hook(partial(count, passes, modality)))
            bench.take(way, LAYOUT)
            for hook in hooks:
                hook.remove()
            found.append((f"ZeRO {zero}, {way}", bench.recorded(), dict(passes)))
    return found


def count(passes: Counter[str], modality: str, *call: object) -> None:
    passes[modality] += 1


@pytest.mark.parametrize("stages", [(3,), pytest.param((0, 1, 2), marks=pytest.mark.long)])
def test_gradients_equal_naive_ones_on_one_and_two_processes(stages: tuple[int, ...]) -> None:
    true = naive_gradient(ProjectedCase(1, 0))
    assert {name.split(".")[2] for name in true if "projectors" in name} == {"views", "plain_two", "one side", "on top"}
    both = on_ranks(recorded, 2, stages)
    for where, gradients, passes in [*recorded(World(), (0,)), *both[0]]:
        error = worst(errors(gradients, true))
        assert error.value < 1e-4, (where, error)
        if where.endswith("plain"):
            assert passes == {"image": 1, "audio": 1, "text": 2}, "once for each field"


def test_a_projector_changes_no_other_initial_weight_and_depends_on_its_name_only() -> None:
    def built(*terms: dict[str, Any]) -> Multimodal:
        return model_of(replace(Given(1, 0), given=tuple(map(TermConfig.model_validate, terms))), torch.device("cpu"))

    plain, whole = built(PROJECTED[0], {"between": ["audio", "text"]}), built(*PROJECTED)
    for name, value in plain.state_dict().items():
        assert "audio-text" in name or torch.equal(value, whole.state_dict()[name]), name
    alone = built(PROJECTED[2], PROJECTED[0]).state_dict()
    own = [name for name in alone if "projectors" in name]
    assert own
    assert all(torch.equal(alone[name], whole.state_dict()[name]) for name in own)


@dataclass(frozen=True)
class Given(Case):
    given: tuple[TermConfig, ...] = ()

    @property
    def terms(self) -> tuple[TermConfig, ...]:
        return self.given


TERMS: list[dict[str, Any]] = [
    {"between": ["image", "text"]},
    {"name": "views", "between": ["image", "image.view"], "projector": {"hidden": 24, "dim": 8}, "weight": 0.5},
    {"name": "taught", "between": ["image", "momentum.text"], "projector": {"hidden": 24, "dim": 8}},
    {
        "name": "soft", "between": ["image.view", "text"], "projector": "views", "objective": "soft",
        "references": {"teacher": "momentum"}, "against": {"text": ["queue.image"]},
    },
]  # fmt: skip


def projecting(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    terms = [*TERMS[:3], {**TERMS[3], "projector": {"of": "views", "fields": ["image.view"]}}]
    more = {
        "model": {"dim": 8, "image": MODEL["image"], "text": MODEL["text"]},
        "terms": terms, "fields": {"image.view": {"from": "image", "crop": [0.3, 1.0]}}, "steps": 4,
        "memories": {"momentum": {"decay": 0.7}, "queue": {"fields": ["image"], "size": 24, "encoder": "momentum"}},
    }  # fmt: skip
    values = recipe(data, out, **{**more, **changes})
    del values["pairs"]
    return values


def test_a_run_resumes_with_the_same_bits_and_equals_one_of_two_processes(world_folder: Path, tmp_path: Path) -> None:
    parts = projecting(world_folder, tmp_path / "parts", checkpoint={"every": 2})
    jobs = [(projecting(world_folder, tmp_path / "whole"), None), (parts, 3), (parts, None)]
    on_ranks(run_all, 2, jobs)
    on_ranks(run_all, 1, [(projecting(world_folder, tmp_path / "one"), None)])
    tensors = assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    copied = [name for name in tensors if name.startswith("memory/momentum/head.projectors.taught.")]
    assert copied
    assert any(not torch.equal(tensors[name], tensors[name.replace("memory/momentum", "weight")]) for name in copied)
    model = load_model(str(tmp_path / "whole"))
    assert sorted(model.head.projectors) == ["taught", "views"]
    for name, value in model.state_dict().items():
        kept = tensors.get(f"memory/ema/{name}", tensors.get(f"weight/{name}"))
        assert torch.equal(value, kept), name


def test_a_stage_may_change_projectors_but_not_the_size_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    def built(*terms: dict[str, Any]) -> Multimodal:
        return build_model(SPACE, [TermConfig.model_validate(term) for term in terms], seed=0)

    views = {"name": "views", "between": ["image", "text"], "projector": {"hidden": 6, "dim": 5}}
    wider = views | {"projector": {"hidden": 7, "dim": 5}}
    plain, whole = built({"between": ["image", "text"]}), built({"between": ["image", "text"]}, views)
    for one, other in ((plain, whole), (whole, plain)):
        fill(one, other.state_dict())
    with pytest.raises(UserError, match=r"views.mlps.* has shape .* another name"):
        fill(built(wider), whole.state_dict())
    with pytest.raises(UserError, match=r"theirs: `head.projectors.views.* has shape"):
        load_weights(built(wider), whole.state_dict(), "theirs")
    again = built({**views, "between": ["text", "image"]})
    load_weights(again, whole.state_dict(), "theirs")
    for name, value in whole.head.projectors.state_dict().items():
        assert torch.equal(again.head.projectors.state_dict()[name], value)
    load_weights(plain, whole.state_dict(), "theirs")
    assert "no place for it: the projector of views, the temperature of views" in capsys.readouterr().err


def test_fields_that_are_not_projected_need_the_dimensions_of_the_joint_space() -> None:
    term = {"name": "views", "between": ["image", "text"], "projector": {"dim": 5, "fields": ["image"]}}
    with pytest.raises(UserError, match=r"projector.dim is 5, but the term `views` also compares `text`, which has th"):
        build_model(SPACE, [TermConfig.model_validate(term)], seed=0)
