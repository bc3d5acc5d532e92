"""Sides that are sums of fields, and groups of patches: beside loops over samples, on one and two processes."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import build_term
from tercet.models.losses.patch_groups import grouped
from tercet.models.losses.terms import Terms
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks

ITEMS, DIM, PATCHES, SCALE = 8, 6, 5, 4.0
ROWS = {  # the item of each row
    "text": [0, 1, 2, 3, 4, 6, 7], "image": [0, 1, 2, 4, 5, 6], "text.title": [1, 2, 4, 5, 7],
    "text.sentence": [0, 0, 1, 3, 4, 4, 6, 7],
}  # fmt: skip
GROUPS = [0, 1, 2, 3, 4, 5, 1, 7]
WEIGHTS = {"image": 0.7, "text.title": 0.3}
TERMS = [
    TermConfig(between=("text", "image"), sums={"image": WEIGHTS}),  # type: ignore[arg-type]
    TermConfig(between=("image", "text.sentence"), objective={"name": "patch_groups"}, weight=0.5),  # type: ignore[arg-type]
]


def vectors_of(name: str) -> Tensor:
    random = torch.Generator().manual_seed(sum(map(ord, name)))
    shape = (len(ROWS["image"]), PATCHES) if name == "image tokens" else (len(ROWS[name]),)
    return normalize(torch.randn(*shape, DIM, generator=random, dtype=torch.float64), dim=-1)


def gradients(world: World) -> tuple[float, dict[str, Tensor]]:
    """The loss, and the gradients of this rank's rows."""
    own = torch.tensor(world.share([*range(ITEMS)]))
    fields, vectors = {}, {}
    for name, items in ROWS.items():
        here = torch.isin(torch.tensor(items), own)
        item_n = torch.tensor(items)[here] - own[0]
        fields[name] = Field(name.partition(".")[0], torch.zeros(len(item_n), 1), item_n)
        vectors[name] = vectors_of(name)[here]
        if name == "image":
            vectors["image tokens"] = vectors_of("image tokens")[here]
    batch = Batch(own, torch.tensor(GROUPS)[own], fields)
    temperatures: Any = {term.name: (torch.tensor([SCALE], dtype=torch.float64), None) for term in TERMS}
    outcome = Terms(TERMS, tile=3, counts={"text.sentence": 2})(batch, vectors, temperatures, world)
    return float(outcome.loss), outcome.rows


def contrast(anchors: list[Tensor], keys: list[Tensor], samples: list[int], repel: bool) -> Tensor:
    """InfoNCE, pair by pair. `repel`: whether pairs of one sample repel each other."""
    losses = []
    for one, others in ((anchors, keys), (keys, anchors)):
        for i, anchor in enumerate(one):
            logits = []
            for j, key in enumerate(others):
                same = samples[i] == samples[j]
                if i == j or (same and repel) or GROUPS[samples[i]] != GROUPS[samples[j]]:
                    logits.append(SCALE * anchor @ key)
            losses.append(torch.stack(logits).logsumexp(dim=0) - SCALE * anchor @ others[i])
    return torch.stack(losses).mean()


def test_sums_and_groups_of_patches_equal_loops_over_samples() -> None:
    leaves = {name: vectors_of(name).requires_grad_() for name in (*ROWS, "image tokens")}
    of = {name: {item: leaves[name][row] for row, item in enumerate(items)} for name, items in ROWS.items()}
    shared = [item for item in ROWS["text"] if item in of["image"]]
    documents = [
        normalize(sum(weight * of[name][item] for name, weight in WEIGHTS.items() if item in of[name]), dim=0)  # type: ignore[arg-type]
        for item in shared
    ]
    loss = contrast([of["text"][item] for item in shared], documents, shared, repel=False)
    sentences, groups, samples = [], [], []
    for row, item in enumerate(ROWS["text.sentence"]):
        if item in ROWS["image"]:
            patches = leaves["image tokens"][ROWS["image"].index(item)]
            sentence = leaves["text.sentence"][row]
            cosines = [patch @ sentence for patch in patches]
            shares = [(one - min(cosines)) / (max(cosines) - min(cosines)) for one in cosines]
            group = sum(share * patch for share, patch in zip(shares, patches, strict=True) if share >= 0.1)
            sentences.append(sentence)
            groups.append(normalize(group, dim=0))  # type: ignore[arg-type]
            samples.append(item)
    loss = loss + 0.5 * contrast(groups, sentences, samples, repel=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for found in (gradients(World()), *joined(on_ranks(gradients, 2))):
        assert found[0] == pytest.approx(loss.item(), rel=1e-9)
        for name, leaf in leaves.items():
            torch.testing.assert_close(found[1][name], torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)


def joined(ranks: list[tuple[float, dict[str, Tensor]]]) -> list[tuple[float, dict[str, Tensor]]]:
    names = ranks[0][1]
    return [(loss, {name: torch.cat([rows[name] for _, rows in ranks]) for name in names}) for loss, _ in ranks]


def test_a_group_has_the_patches_above_the_threshold_without_padding() -> None:
    patch_1Ld = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 0.0]]])
    text_1d = torch.tensor([[1.0, 0.0]])
    expected = normalize(torch.tensor([[1.0, 0.0]]) + 0.6 * torch.tensor([[0.6, 0.8]]), dim=1)
    torch.testing.assert_close(grouped(patch_1Ld, text_1d, 0.5), expected)
    torch.testing.assert_close(grouped(patch_1Ld, text_1d, 0.7), text_1d)
    torch.testing.assert_close(grouped(patch_1Ld[:, 1:2], text_1d, 0.5), patch_1Ld[:, 1])


def test_groups_and_sums_of_what_they_cannot_have_are_refused() -> None:
    groups = {"between": ("image", "text"), "objective": {"name": "patch_groups"}}
    for more, message in (
        ({"against": {"image": ("text.negative",)}}, "takes no extra negatives"),
        ({"sums": {"image": {"image": 0.5, "text.title": 0.5}}}, "compares tokens, which sums have not"),
    ):
        with pytest.raises(UserError, match=message):
            build_term(TermConfig.model_validate({**groups, **more}))
