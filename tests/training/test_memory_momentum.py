"""A momentum encoder is the closed form of a moving average, embeds as a model with these weights does, and gets no
gradient: at every ZeRO stage, on one process and on two."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tercet.configs.base import build
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.pretrained import described
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.loop.step import Step, Taken
from tercet.training.memory.momentum import Momentum
from tercet.training.preflight.complete import complete
from tercet.training.pretrained import load_weights
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, losses, recipe, run, saved

DECAY, STEPS, BROKEN, SIZE = 0.7, 6, 3, 40
LOCAL = {"name": "infonce", "own_negatives_only": True}
TERMS: list[dict[str, Any]] = [
    {"between": ["image", "momentum.text"], "against": {"image": ["queue.text"]}},
    {"between": ["momentum.image", "text"], "against": {"text": ["queue.image"]}},
    {"between": ["audio", "text"], "objective": "soft", "references": {"teacher": "momentum"}},
    {"name": "local", "between": ["text", "momentum.text"], "against": {"text": ["text.negative"]}, "objective": LOCAL},
]
MEMORIES = {
    "momentum": {"decay": DECAY},
    "queue": {"fields": ["image", "text"], "size": SIZE, "encoder": "momentum"},
}


def contrasting(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """The audio tower is locked."""
    fields = {"text.negative": {"from": "json.negatives", "rows": 2}}
    model = {**MODEL, "audio": {**MODEL["audio"], "unlocked": 0}}
    more = {"terms": TERMS, "memories": MEMORIES, "fields": fields, "model": model, "steps": STEPS}
    values = recipe(data, out, **{**more, **changes})
    del values["pairs"]
    return values


class Watch:
    """The weights before and after every step, whether it was applied, and what is wrong with the vectors."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.applied: list[bool] = []
        self.faults: list[str] = []
        self.queued: list[dict[str, list[Tensor]]] = []
        self.momentum: Momentum | None = None


@contextmanager
def watched(broken: int) -> Iterator[Watch]:
    """Of one step the gradient, though not the loss, is not finite on the last rank."""
    watch, call, surrogate = Watch(), Step.__call__, Step._surrogate

    def step(self: Step, batch: Batch, number: int) -> Taken:
        momentum = self.memories.by_name["momentum"]
        assert isinstance(momentum, Momentum)
        watch.momentum = momentum
        if not watch.weights:
            watch.weights.append(whole(self))
        queued = dict(self.memories.by_name["queue"].rows)  # type: ignore[attr-defined]
        taken = call(self, batch, number)
        watch.faults += wrong_vectors(watch, self, batch, taken, queued)
        watch.weights.append(whole(self))
        watch.applied.append(taken.stepped.applied)
        return taken

    def spoil(self: Step, *parts: Any) -> Tensor:
        spoilt = len(watch.applied) == broken and self.world.rank == self.world.size - 1
        return surrogate(self, *parts) * (torch.nan if spoilt else 1.0)

    with patch.object(Step, "__call__", step), patch.object(Step, "_surrogate", spoil):
        yield watch


def whole(step: Step) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in step.engine.weights()}


def average(watch: Watch) -> dict[str, Tensor]:
    """dⁿ w₀ + (1 − d) Σ dⁿ⁻ᵏ wₖ over the n applied steps so far, in fp64."""
    kept = [watch.weights[0]]
    kept += [after for after, applied in zip(watch.weights[1:], watch.applied, strict=False) if applied]
    n = len(kept) - 1
    return {
        name: DECAY**n * first.double()
        + (1 - DECAY) * sum((DECAY ** (n - k) * kept[k][name].double() for k in range(1, n + 1)), torch.zeros(()))
        for name, first in kept[0].items()
    }


def wrong_vectors(watch: Watch, step: Step, batch: Batch, taken: Taken, queued: Any) -> Iterator[str]:
    """Against a model of the same towers that is given the average of the weights by hand."""
    config = CONFIG["run"]
    model = build_model(config.model, config.terms, 99).eval()
    model.load_state_dict({name: mean.float() for name, mean in average(watch).items()})
    outcome, number = taken.outcome, len(watch.applied)
    with torch.no_grad():
        own = model.embed(batch)
    if outcome.frozen.keys() != {"momentum.image", "momentum.text", "momentum.audio", "queue.image", "queue.text"}:
        yield f"step {number}: offered are {sorted(outcome.frozen)}"
    for name in ("image", "text", "audio"):
        rows, learned = outcome.frozen[f"momentum.{name}"], outcome.gathered[name]
        if not torch.equal(rows.item_N, learned.item_N) or not torch.equal(rows.id_N, learned.id_N):
            yield f"step {number}: rows of {name} are those of other items"
        if len(rows.z_Ad) and not torch.allclose(rows.z_Ad, own[name], atol=1e-5):
            yield f"step {number}: vectors of {name} are not those of the averaged weights"
    if any(name.startswith("momentum") for name in outcome.rows):
        yield f"step {number}: vectors of memories have a gradient"
    memory = step.memories.by_name["queue"]
    for name, before in queued.items():
        brought = outcome.frozen[f"momentum.{name}"] if taken.stepped.applied else before.cut(slice(0, 0))
        expected = torch.cat([before.z_Nd, brought.z_Nd])[-SIZE:]
        if not torch.equal(memory.rows[name].z_Nd, expected):  # type: ignore[attr-defined]
            yield f"step {number}: the queue of {name} holds other vectors than those of the momentum encoder"


CONFIG: dict[str, RunConfig] = {}


def faults(world: World, data: Path, out: Path) -> list[str]:
    """What went wrong in runs at every ZeRO stage, one step of which is skipped. One process has no stages."""
    found = []
    for zero in (0, 1, 2, 3) if world.size > 1 else (0, 1):
        values = contrasting(data, out / str(zero), zero=zero, micro_batch=5 if zero in (1, 3) else None)
        CONFIG["run"] = RunConfig.model_validate(values)
        with watched(BROKEN) as watch:
            run(world, values)
        found += [f"ZeRO-{zero}, {fault}" for fault in (*watch.faults, *wrong_weights(watch))]
    return found


def wrong_weights(watch: Watch) -> Iterator[str]:
    assert watch.momentum is not None
    if watch.applied != [number != BROKEN for number in range(STEPS)]:
        yield f"applied were {watch.applied}"
    copy = watch.momentum.model
    expected, found = average(watch), dict(copy.state_dict())
    moved = [name for name in expected if not torch.equal(watch.weights[0][name], watch.weights[-1][name])]
    for name, mean in expected.items():
        if not name.startswith("head.temperatures") and (found[name] - mean).abs().max() > 1e-6:
            yield f"`{name}` is not the average"
    if any(one.startswith("towers.audio") for one in moved) or not any(one.startswith("towers.text") for one in moved):
        yield "other weights were trained than those of the unlocked towers"
    if any(parameter.requires_grad or parameter.grad is not None for parameter in copy.parameters()):
        yield "weights of the momentum encoder have a gradient"
    if any(module.training for module in copy.modules()):
        yield "the momentum encoder is not in evaluation mode"


@pytest.mark.parametrize("world", [1, 2])
def test_the_copy_is_the_average_and_embeds_with_it(world_folder: Path, tmp_path: Path, world: int) -> None:
    """At every ZeRO stage; a fifth of the scenes have no sound."""
    assert on_ranks(faults, world, world_folder, tmp_path) == [[]] * world
    found = [losses(tmp_path / str(zero)) for zero in ((0, 1, 2, 3) if world > 1 else (0, 1))]
    for others in found[1:]:
        assert others == pytest.approx(found[0], rel=1e-4, nan_ok=True)


@pytest.mark.parametrize(("world", "zero"), [(1, 0), pytest.param(2, 3, marks=pytest.mark.long)])
def test_a_resumed_run_is_bit_equal(world_folder: Path, tmp_path: Path, world: int, zero: int) -> None:
    """With stages, of which the second unlocks a tower, a selection and gradient caching."""
    stages = [{"name": "first", "steps": 3}, {"name": "second", "steps": 3, "set": {"model.audio.unlocked": 1}}]
    selection = {"name": "loss", "filter_ratio": 0.5, "strata": 2}
    more = {"zero": zero, "micro_batch": 3, "stages": stages, "batch_size": 8, "selection": selection}
    values = contrasting(world_folder, tmp_path / "whole", **more)
    cut = contrasting(world_folder, tmp_path / "parts", checkpoint={"every": 2}, **more)
    on_ranks(run_all, world, [(values, None), (cut, 4), (cut, None)])
    whole, parts = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    kept = {name for name in whole if name.startswith("memory/momentum/")}
    assert any(name.startswith("memory/momentum/towers.audio") for name in kept)
    assert not any("temperatures" in name for name in kept)
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert len(losses(tmp_path / "whole")) == STEPS


def made(**changes: Any) -> RunConfig:
    return build(RunConfig, contrasting(Path("shards"), Path("out"), **changes), lambda key: "recipe")


@pytest.mark.parametrize(("last", "expected"), [(0.9, [0.9] * 5), (1.0, [0.9, 0.9146, 0.95, 0.9854, 1.0])])
def test_the_decay_rises_along_half_a_cosine(last: float, expected: list[float]) -> None:
    memory = object.__new__(Momentum)
    memory.decay, memory.last = 0.9, last
    found = [memory.decay_at(progress) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_term_against_a_momentum_encoder_has_anchors_of_the_model_only() -> None:
    terms = {term.name: term for term in made().terms}
    assert terms["image-momentum.text"].shares == {"image": 1.0, "momentum.text": 0.0}
    assert terms["momentum.image-text"].shares == {"momentum.image": 0.0, "text": 1.0}
    assert terms["audio-text"].shares == {}
    assert terms["audio-text"].further == ("momentum.audio", "momentum.text")


def test_what_memories_offer_is_not_taken_from_init() -> None:
    """The terms compare fields of the batch. A term that would compare a field with itself is left out."""
    found = described("x", made(terms=[TERMS[0], TERMS[3]]), dict)
    values = contrasting(Path("shards"), Path("out"), init="x", memories={}, terms=[])
    (term,) = complete(build(RunConfig, values, lambda key: "recipe"), found).terms
    assert (term.name, term.between, term.against) == ("image-text", ("image", "text"), {})


def test_models_load_with_the_temperatures_of_terms_against_a_momentum_encoder() -> None:
    """Also if another term has the same fields, and if such a term is the only one."""
    for between in ([["image", "text"], ["image", "momentum.text"]], [["image", "momentum.image"]]):
        scales = [{"name": "infonce", "scale": 5 + len(second)} for _, second in between]
        terms = [{"between": one, "objective": scale} for one, scale in zip(between, scales, strict=True)]
        config = made(terms=terms, memories={"momentum": {"decay": DECAY}})
        trained = build_model(config.model, config.terms, seed=3)
        found = described("x", config, trained.state_dict)
        space = build(SpaceConfig, {"model": found.model, **found.terms}, lambda key: "x")
        model = build_model(space.model, space.terms, seed=0)
        load_weights(model, found.weights(), "x")
        for term in config.terms:
            assert model.head.temperature(term.name)[0] == trained.head.temperature(term.name)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memories": {"momentum": {"decay": 1.0}}}, "`memories.momentum.decay` is `1.0`, but should be less than 1"),
        (
            {"memories": {}},
            "has `momentum.text`, which no momentum encoder embeds; add one, as memories",
        ),
        (
            {"memories": {**MEMORIES, "queue": {"fields": ["image", "text"], "encoder": "momentun"}}},
            "did you mean `momentum`",
        ),
        (
            {"terms": [{"between": ["image", "momentum.txet"]}, TERMS[2]]},
            "names the unknown modality `txet`; did you mean `text`?",
        ),
        (
            {"terms": [{"between": ["image", "momentum.text"]}], "memories": {"momentum": {}}},
            "has `momentum.text`, which no momentum encoder embeds; known: momentum.image",
        ),
        (
            {"terms": [{"between": ["image", "queue.text"]}, TERMS[2]]},
            "has `queue.text`, which no momentum encoder embeds; known: momentum.audio",
        ),
        (
            {"terms": [TERMS[2], {"between": ["momentum.image", "momentum.text"]}]},
            "has no field that is trained; name one field of the batch",
        ),
        (
            {"terms": [TERMS[2], {"between": ["image", "text", "momentum.text"], "objective": "symile"}]},
            "has `momentum.text`, which only a term of two fields may have",
        ),
        (
            {"terms": [{"between": ["image", "momentum.text"], "directions": {"momentum.text": 1}}, TERMS[2]]},
            "directions.momentum.text` is of a memory, whose vectors cannot be anchors",
        ),
        (
            {"terms": [{**TERMS[0], "against": {"momentum.text": ["queue.image"]}}, TERMS[2]]},
            "against.momentum.text` is of a memory, whose vectors cannot be anchors",
        ),
    ],
)
def test_mistakes_are_errors_of_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        made(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
