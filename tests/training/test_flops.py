"""The counted FLOPs of towers equal closed forms, and counting leaves no trace."""

from dataclasses import replace
from typing import Any

import torch

from tercet.data_pipelines.sample import Batch, Field
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.space import SpaceConfig
from tercet.training.loop.flops import FieldFlops, Flops, count_flops, reduced_of, rows_of
from tercet.training.loop.scoring import build_scoring
from tercet.training.selection.config import ScoringConfig

TEXT = {"encoder": "small:text", "options": {"width": 32, "heads": 2, "depth": 3, "context": 20}}
VIT = {"encoder": "timm:vit_tiny_patch16_224", "size": 224}
DIM = 16


def model_of(**towers: dict[str, Any]) -> Multimodal:
    config = SpaceConfig.model_validate({"model": {"dim": DIM, **towers}, "pairs": {"-".join(towers): 1.0}})
    return build_model(config.model, config.terms, 0)


def transformer(tokens: int, width: int, depth: int) -> int:
    """Each block: queries, keys, values, two products of the attention, the output, and an MLP of 4 times the width."""
    products = tokens * width * width * (3 + 1 + 4 + 4) + 2 * tokens * tokens * width
    return 2 * depth * products


def test_a_transformer_over_words_and_a_vit_cost_what_a_closed_form_says() -> None:
    flops = count_flops(model := model_of(image=VIT, text=TEXT), model.intakes).by_field
    text = transformer(20, 32, 3) + 2 * 32 * DIM
    assert (flops["text"].forward, flops["text"].training) == (text, 3 * text)
    patches = 2 * 14 * 14 * (3 * 16 * 16) * 192
    image = patches + transformer(14 * 14 + 1, 192, 12) + 2 * 192 * DIM
    assert flops["image"].forward == image
    assert flops["image"].training == 3 * image - patches  # pixels need no gradient


def test_locked_towers_cost_a_forward_pass_and_gradient_caching_one_more() -> None:
    head = 2 * 192 * DIM
    for micro_batch, more in ((None, 0), (8, 1)):
        model = model_of(image=VIT | {"unlocked": 0}, text=TEXT)
        flops = count_flops(model, model.intakes, micro_batch).by_field
        assert flops["image"].training == flops["image"].forward * (1 + more) + head  # a gradient of its weight only
        assert flops["text"].training == flops["text"].forward * (3 + more)


def test_recomputed_activations_are_counted() -> None:
    plain, saving = (model_of(image=VIT, text=TEXT | {"grad_checkpointing": saves}) for saves in (False, True))
    once, again = (count_flops(model, model.intakes).by_field["text"].training for model in (plain, saving))
    last = 3 * 2 * 20 * 4 * 32 * 32  # the backward pass of a block does not need its result
    assert again - once == transformer(20, 32, 3) - last


def test_counting_leaves_no_trace() -> None:
    model = model_of(image=VIT, text=TEXT)
    model.train()
    model.tower("text").eval()
    modes, draws = [module.training for module in model.modules()], torch.get_rng_state()
    count_flops(model, model.intakes)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), draws)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_larger_patches_cost_what_a_vit_over_fewer_tokens_costs() -> None:
    model = model_of(image=VIT, text=TEXT)
    scoring = build_scoring(ScoringConfig(patch=32), model, torch.device("cpu"))
    flops = count_flops(model, model.intakes, scoring=scoring)
    image = 2 * 7 * 7 * (3 * 16 * 16) * 192 + transformer(7 * 7 + 1, 192, 12) + 2 * 192 * DIM
    assert flops.reduced["image"].forward == image
    rows, full = {"image": 10, "text": 10}, flops.by_field
    assert flops.scoring(rows) == 10 * (image + full["text"].forward)
    mixed = 6 * full["image"].training + 4 * flops.reduced["image"].training + 10 * full["text"].training
    assert flops.training(rows, {"image": 4}) == mixed
    assert set(flops.reduced) == {"image"}


def test_a_super_batch_is_scored_and_its_kept_rows_are_trained_on() -> None:
    flops = Flops({"image": FieldFlops(10, 30), "text": FieldFlops(2, 6), "text.negative": FieldFlops(2, 6)})
    item = torch.tensor([0, 1, 1])
    fields = {"image": Field("image", torch.zeros(2, 3, 4, 4), item[:2]), "text": Field("text", item[:, None], item)}
    rows = rows_of(Batch(torch.arange(2), torch.arange(2), fields))
    assert rows == {"image": 2, "text": 3}
    assert (flops.scoring(rows), flops.training(rows)) == (26, 78)
    marked = replace(fields["image"], reduced=torch.tensor([False, True]))
    assert reduced_of(Batch(torch.arange(2), torch.arange(2), {**fields, "image": marked})) == {"image": 1}
