"""Masked prediction beside a loop over patches, on one and two processes."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import build_objective, build_term
from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import on_ranks

PICTURES, PATCHES, DIM, HOT, SCALE = 6, 4, 5, 0.1, 8.0
STUDENT, TEACHER = [0, 1, 2, 4, 5], [0, 1, 3, 4, 5]  # the pictures that each of them has
CENTRE = torch.linspace(-0.2, 0.2, DIM, dtype=torch.float64)
OPTIONS = {"name": "masked_prediction", "teacher_temperature": [HOT, HOT], "scale": SCALE, "bounds": [SCALE, SCALE]}


def tokens(seed: int, pictures: list[int]) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(len(pictures), PATCHES, DIM, generator=random, dtype=torch.float64), dim=-1)


def rows(seed: int, pictures: list[int], world: World) -> Rows:
    item_N, own = torch.tensor(pictures), world.share([*range(PICTURES)])
    mine = [place for place, item in enumerate(pictures) if item in own]
    return Rows(tokens(seed, pictures), slice(mine[0], mine[-1] + 1), item_N, item_N, item_N)


def solved(world: World) -> tuple[float, Tensor, dict[int, float]]:
    both = {"image.masked": rows(1, STUDENT, world), "momentum.image": rows(2, TEACHER, world)}
    scale = torch.tensor([SCALE], dtype=torch.float64)
    averages = {"centre": CENTRE}
    vectors = {name: Rows(one.z_Nd[:, 0], one.own, one.item_N, one.group_N, one.id_N) for name, one in both.items()}
    problem = Problem(vectors, scale, None, 3, world, averages=averages, tokens=both)
    objective = build_objective(ObjectiveConfig.model_validate(OPTIONS))
    found = objective.solve(problem)
    ((item_N, loss_N, _),) = objective.losses_of_items(problem)
    return (
        float(found.loss),
        found.rows["image.masked tokens"],
        dict(zip(item_N.tolist(), loss_N.tolist(), strict=True)),
    )


def test_every_patch_predicts_the_one_at_its_place_in_the_whole_picture() -> None:
    student, teacher = tokens(1, STUDENT).requires_grad_(), tokens(2, TEACHER)
    losses = {}
    for item in {*STUDENT} & {*TEACHER}:
        patches = []
        for r, t in zip(student[STUDENT.index(item)], teacher[TEACHER.index(item)], strict=True):
            p = torch.softmax((t - CENTRE) / HOT, dim=0)
            patches.append(-(p * torch.log_softmax(SCALE * r, dim=0)).sum())
        losses[item] = torch.stack(patches).mean()
    loss = torch.stack([*losses.values()]).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    one, two = solved(World()), on_ranks(solved, 2)
    for value, slope, items in (one, (two[0][0], torch.cat([two[0][1], two[1][1]]), two[0][2])):
        assert value == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(slope, student.grad)
        assert items == pytest.approx({item: each.item() for item, each in losses.items()}, rel=1e-9)


def test_it_needs_a_momentum_encoder_and_pictures_of_one_size() -> None:
    with pytest.raises(UserError, match="needs a field and one of a momentum encoder"):
        build_term(TermConfig.model_validate({"between": ["image", "image.masked"], "objective": OPTIONS}))
    build_term(TermConfig.model_validate({"between": ["image.masked", "momentum.image"], "objective": OPTIONS}))
