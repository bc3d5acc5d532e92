"""The peer: open_clip's `ClipLoss` in each of its modes, with gradients averaged over ranks as in DDP."""

import warnings
from collections.abc import Iterator

import torch
from open_clip.loss import ClipLoss

from tercet.benchmarks.gradients.case import ITEMS, Case, make_batch
from tercet.benchmarks.gradients.ours import GradientCase
from tercet.benchmarks.gradients.truth import Error, errors, is_temperature, model_of, true_gradient, worst
from tercet.benchmarks.table import BenchRow
from tercet.distributed import World

MODES = {
    "default": {},
    "local_loss": {"local_loss": True},
    "gather_with_grad": {"gather_with_grad": True},
    "local_loss and gather_with_grad": {"local_loss": True, "gather_with_grad": True},
}


def measure_peer(world: World) -> Iterator[BenchRow]:
    """tercet and each mode of `ClipLoss` on the same pictures and texts. No items share a group: open_clip has none."""
    case = Case(world.size, zero=1, setting="image-text")
    own_errors = GradientCase(world, case).errors("plain", "all rows")
    for mode, options in MODES.items():
        both = (own_errors, peer_errors(world, case, options))
        for part, temperature in (("towers", False), ("temperature", True)):
            ours, peer = (worst([e for e in found if is_temperature(e) == temperature]) for found in both)
            yield BenchRow(
                f"beside ClipLoss W{world.size} {part}, {mode}",
                ours=ours.value,
                peer=peer.value,
                peer_name=f"open_clip ClipLoss, {mode}",
                ratio=ours.value / peer.value if peer.value else None,
                sizes={"world": world.size, "items": ITEMS},
            )


def peer_errors(world: World, case: Case, options: dict[str, bool]) -> list[Error]:
    model = model_of(case, world.device)
    vectors, temperatures = model(make_batch(model, case, "all rows", world))
    criterion = ClipLoss(rank=world.rank, world_size=world.size, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        loss = criterion(vectors["image"], vectors["text"], temperatures["image-text"][0])
    torch.autograd.backward(loss)
    gradient = {n: world.sum(p.grad) / world.size for n, p in model.named_parameters() if p.grad is not None}
    return errors(gradient, true_gradient(case, "all rows", world.device))
