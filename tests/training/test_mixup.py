"""Mixup beside a loop over single samples, on one and two processes, with and without chunks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from tercet.benchmarks.gradients.case import ITEMS, MICRO_BATCH, Case, make_batch
from tercet.benchmarks.gradients.ours import Recorder
from tercet.benchmarks.gradients.truth import errors, model_of, worst
from tercet.configs.base import Misfit
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.seeding import keyed
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import Multimodal
from tercet.models.term_config import ObjectiveConfig
from tercet.testing import on_ranks
from tercet.training.engines.build import build_engine
from tercet.training.engines.partition import assemble, placed
from tercet.training.loop.step import Step
from tercet.training.mixup.config import MixupConfig
from tercet.training.mixup.mixup import Mixup
from tercet.training.preflight.checks import ready
from tercet.training.recipe import load_recipe

MIXUP = MixupConfig(alpha=0.8, strata=4)
PART, SMOOTHING = ITEMS // 4, 0.1


def case_of(world: World) -> tuple[Case, tuple[Any, ...]]:
    case = Case(world.size, zero=1 if world.size > 1 else 0, setting="image-text")
    objective = ObjectiveConfig.model_validate({"name": "infonce", "smoothing": SMOOTHING})
    return case, tuple(term.model_copy(update={"objective": objective}) for term in case.terms)


def taken(world: World, way: int | None, layout: str) -> list[tuple[float, dict[str, Tensor]]]:
    """The loss of each step and its gradients. The learning rate is 0."""
    case, terms = case_of(world)
    engine = build_engine(model := model_of(case, world.device), Recorder(model.parameters()), case.config(), world)
    step = Step(engine, Terms(terms, tile=7), world, 5, way, mix=Mixup(MIXUP, ITEMS, 5, world))
    found = []
    for number in steps():
        batch = make_batch(engine.module, case, layout, world)  # type: ignore[arg-type]
        loss = float(step(batch, number).outcome.loss)
        state = engine.optimizer.state
        gradient = {
            one.name: assemble(engine, one, None if one.fragment is None else state[one.fragment.flat]["grad"])
            for one in placed(engine)
        }
        found.append((loss, gradient))
    return found


def drawn(step: int) -> tuple[str, float]:
    random = keyed("mixup", 5, step)
    return ("image", "text")[int(random.integers(2))], float(random.beta(MIXUP.alpha, MIXUP.alpha))


def steps() -> list[int]:
    """The first step of each coin."""
    return [next(step for step in range(9) if drawn(step)[0] == field) for field in ("image", "text")]


def partner(batch: Batch, item: int) -> int:
    other = item // PART * PART + PART - 1 - item % PART
    there = [{*batch.fields[name].item.tolist()} for name in ("image", "text")]
    mixed = all({item, other} <= one for one in there) and batch.groups[item] != batch.groups[other]
    return other if mixed else item


def naive(model: Multimodal, batch: Batch, step: int) -> Tensor:
    """By the definition, sample by sample, in one process and in double precision after the towers."""
    field, share = drawn(step)
    rows = {name: {item: row for row, item in enumerate(one.item.tolist())} for name, one in batch}
    if field == "image":
        plain = batch.fields["image"].values.double()
        pictures = []
        for item, row in rows["image"].items():
            pictures.append(share * plain[row] + (1 - share) * plain[rows["image"][partner(batch, item)]])
        mixed = torch.stack(pictures).round().to(torch.uint8)
        batch = replace(batch, fields={**batch.fields, "image": replace(batch.fields["image"], values=mixed)})
    vectors, temperatures = model(batch)
    z = {name: {item: vectors[name][row].double() for item, row in one.items()} for name, one in rows.items()}
    if field == "text":
        z["text"] = {
            item: normalize(share * one + (1 - share) * z["text"][partner(batch, item)], dim=0)
            for item, one in z["text"].items()
        }
    items = sorted({*z["image"]} & {*z["text"]})
    (scale, _), *_ = temperatures.values()
    losses = []
    for anchors, keys in (("image", "text"), ("text", "image")):
        for item in items:
            open_keys = [key for key in items if key == item or batch.groups[key] != batch.groups[item]]
            logits = torch.stack([scale.double()[0] * z[anchors][item] @ z[keys][key] for key in open_keys])
            target = torch.full((len(open_keys),), SMOOTHING / len(open_keys), dtype=torch.float64)
            own = share if partner(batch, item) != item else 1.0
            target[open_keys.index(item)] += (1 - SMOOTHING) * own
            target[open_keys.index(partner(batch, item))] += (1 - SMOOTHING) * (1 - own)
            losses.append(-(target * log_softmax(logits, dim=0)).sum())
    return torch.stack(losses).sum() / (2 * len(items))


def test_mixup_is_exact_on_any_number_of_processes_and_with_chunks() -> None:
    """Some samples lack a modality or share a group with their partner, and stay as they are."""
    case, _ = case_of(World())
    model = model_of(case, torch.device("cpu"))
    batch = make_batch(model, case, "rows missing", World())
    partners = [partner(batch, item) for item in range(ITEMS)]
    assert 4 < sum(one != item for item, one in enumerate(partners)) < ITEMS
    ways = [*both_ways(World()), *(way for rank in on_ranks(both_ways, 2) for way in rank)]
    for number, step in enumerate(steps()):
        model.zero_grad()
        loss = naive(model, batch, step)
        loss.backward()  # type: ignore[no-untyped-call]
        true = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        for way in ways:
            assert way[number][0] == pytest.approx(loss.item(), rel=1e-5)
            assert worst(errors(way[number][1], true)).value < 1e-3


def both_ways(world: World) -> list[list[tuple[float, dict[str, Tensor]]]]:
    return [taken(world, way, "rows missing") for way in (None, MICRO_BATCH)]


def test_mixup_is_refused_where_its_targets_cannot_be_learned() -> None:
    terms = load_recipe("image_text", ["data=shards"]).terms
    for options, message in (
        ({"fields": ("image",)}, "lacks `text`"),
        ({"fields": ("image", "audio", "text")}, "no term compares"),
        ({"strata": 5}, "does not divide batch_size 24"),
    ):
        with pytest.raises(Misfit, match=message):
            MixupConfig.model_validate(options).check(terms, 24)
    with pytest.raises(ValidationError, match="at least 1 item"):
        MixupConfig.model_validate({"fields": ()})
    assert [MixupConfig().strata_of(size) for size in (16, 24, 1024, 8192)] == [2, 2, 128, 256]
    with pytest.raises(UserError, match="not a multiple of 3 processes"):
        MixupConfig(strata=4).strata_on(24, 3)
    for objective in ("sigmoid", "{name: infonce, top_k: 3}"):
        recipe = load_recipe("image_text", ["data=shards", "mixup={}", f"objective={objective}"])
        with pytest.raises(UserError, match="learns no mixed targets"):
            ready(recipe, None)  # type: ignore[arg-type]  # it opens no source before
