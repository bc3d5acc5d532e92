"""Checks that an encoder can be trained and evaluated: its attributes, what its vectors depend on, its gradients."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.encoder import Encoder
from tercet.testing.rows import ROWS, TowerInput, rows_for
from tercet.testing.steps import steps_alike
from tercet.testing.verdict import demand, demand_equal


def check_encoder(encoder: str | Encoder, modality: str | None = None, **config: object) -> None:
    """Raises an AssertionError that says what is wrong.

    Give an encoder, or its name in a recipe with its modality and the other keys of its tower. An encoder given by name
    also takes a step on two processes.
    """
    if isinstance(encoder, Encoder):
        look(encoder)
        return
    if modality is None:
        raise UserError(f"check_encoder({encoder!r}) needs its modality, as check_encoder({encoder!r}, 'image')")
    tower = TowerConfig.model_validate({"encoder": encoder, **config})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        look(build_encoder(modality, tower))
    steps_alike(modality, tower)


def look(encoder: Encoder) -> None:
    declares_itself(encoder)
    rows = rows_for(encoder.intake)
    for check in CHECKS:
        check(encoder, rows)
    encoder.zero_grad()


def declares_itself(encoder: Encoder) -> None:
    for name in ("modality", "width", "intake"):
        demand(hasattr(encoder, name), f"the encoder has no `{name}`")
    flat = [name for name, parameter in encoder.named_parameters() if parameter.ndim == 0]
    demand(
        not flat,
        f"the parameter `{next(iter(flat), '')}` has no dimension, and cannot be sharded: give it the shape [1]",
    )


def gives_a_vector_a_row(encoder: Encoder, rows: TowerInput) -> None:
    vectors = rows(encoder.eval()).detach()
    shape = [ROWS, encoder.width]
    demand(
        list(vectors.shape) == shape,
        f"`forward` returns {list(vectors.shape)} for {ROWS} rows, not [rows, width] = {shape}",
    )
    demand(bool(torch.isfinite(vectors).all()), "`forward` returns vectors that are not finite")
    spread = (vectors - vectors.mean(0)).abs().max()
    demand(
        float(spread) > 1e-6 * float(vectors.abs().max()),
        "`forward` gives rows of different content one and the same vector",
    )


def repeats_itself(encoder: Encoder, rows: TowerInput) -> None:
    encoder.eval()
    once, again = rows(encoder), rows(encoder)
    demand(torch.equal(once, again), "in evaluation mode the same rows give other vectors the second time")


def looks_at_each_row_alone(encoder: Encoder, rows: TowerInput) -> None:
    encoder.eval()
    together = rows(encoder)
    alone = torch.cat([rows.one(index)(encoder) for index in range(ROWS)])
    demand_equal(alone, together, "a row's vector depends on the rows beside it")


def stops_at_the_end(encoder: Encoder, rows: TowerInput) -> None:
    if rows.lengths is None:
        return
    encoder.eval()
    noisy = rows.values.clone()
    for row, length in enumerate(rows.lengths.tolist()):
        noisy[row, length:] = 7
    demand_equal(
        TowerInput(noisy, rows.lengths)(encoder), rows(encoder), "what lies beyond a row's length changes its vector"
    )


def gives_tokens(encoder: Encoder, rows: TowerInput) -> None:
    """A tower may have no tokens."""
    encoder.eval()
    try:
        together = encoder.tokens(rows.values, rows.lengths)
    except UserError:
        return
    demand_equal(together.vectors, rows(encoder), "`tokens` gives other vectors than `forward`")
    shape, longest = list(together.tokens.shape), together.tokens.shape[1]
    wanted = [ROWS, longest, encoder.width]
    demand(shape == wanted, f"`tokens` gives tokens of shape {shape}, not [rows, tokens, width] = {wanted}")
    counts = together.counts.tolist()
    possible = len(counts) == ROWS and min(counts) >= 1 and max(counts) <= longest
    demand(possible, f"`tokens` counts {counts}, but {ROWS} rows have 1 to {longest} tokens")
    for index, count in enumerate(counts):
        one = rows.one(index)
        alone = encoder.tokens(one.values, one.lengths)
        demand(alone.counts.tolist() == [count], "the number of a row's tokens depends on the rows beside it")
        demand_equal(
            alone.tokens[0, :count], together.tokens[index, :count], "a row's tokens depend on the rows beside it"
        )


def embeds_for_evaluation(encoder: Encoder, rows: TowerInput) -> None:
    with torch.no_grad():
        vectors = encoder.eval().embed(rows.values, rows.lengths)
    demand(list(vectors.shape) == [ROWS, encoder.width], f"`embed` returns {list(vectors.shape)}, not [rows, width]")
    demand(bool(torch.isfinite(vectors).all()), "`embed` returns vectors that are not finite")


def has_each_block_once(encoder: Encoder, rows: TowerInput) -> None:
    blocks = encoder.blocks()
    known, named = [id(p) for p in encoder.parameters()], [id(p) for block in blocks for p in block]
    demand(all(blocks) and bool(blocks), "`blocks` must give the parameters of at least one block, and no empty block")
    demand(set(named) <= set(known), "`blocks` names a parameter that is not the encoder's own")
    demand(len(set(named)) == len(named), "`blocks` names a parameter twice")


def has_a_dummy(encoder: Encoder, rows: TowerInput) -> None:
    """A rank without rows must compute the same gradients, else the ranks wait for each other for ever."""
    device = rows.values.device
    values, lengths = encoder.dummy(device)
    demand(len(values) == 1, f"`dummy` gives {len(values)} rows, not one")
    real, standing_in = gradients(encoder.train(), rows), gradients(encoder, TowerInput(values, lengths))
    missing = sorted(real.keys() - standing_in.keys())
    demand(not missing, f"the dummy row reaches fewer parameters than a real one, as `{next(iter(missing), '')}`")
    demand(bool(real), "no parameter gets a gradient")


def gradients(encoder: Encoder, rows: TowerInput) -> dict[str, Tensor]:
    """The gradient of each parameter, with the same dropout every time."""
    encoder.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vectors = rows(encoder)
        slope = torch.linspace(-1, 1, vectors.numel()).reshape(vectors.shape)
        torch.autograd.backward(vectors, slope.to(vectors.dtype))
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


def checkpoints_gradients(encoder: Encoder, rows: TowerInput) -> None:
    """A tower may refuse to checkpoint gradients."""
    saving = copy.deepcopy(encoder).train()
    try:
        saving.checkpoint_gradients()
    except UserError:
        return
    plain, recomputed = gradients(encoder.train(), rows), gradients(saving, rows)
    sentence = "with `checkpoint_gradients` the gradients are others"
    demand(plain.keys() == recomputed.keys(), sentence)
    demand_equal([recomputed[name] for name in plain], [*plain.values()], sentence)


Check = Callable[[Encoder, TowerInput], None]
CHECKS: tuple[Check, ...] = (
    gives_a_vector_a_row,
    repeats_itself,
    looks_at_each_row_alone,
    stops_at_the_end,
    gives_tokens,
    embeds_for_evaluation,
    has_each_block_once,
    has_a_dummy,
    checkpoints_gradients,
)
