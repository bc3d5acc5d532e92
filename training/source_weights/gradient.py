"""The gradient of the loss of a batch with respect to the projections of the head, exact over all ranks.

The rest of the model stays locked, so no gradient passes through a tower. For a tower that projects by itself, the
gradient is that of an identity matrix after it. Terms with a projector of their own do not count.
"""

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.terms import Terms
from tercet.models.multimodal import Multimodal
from tercet.training.config import RunConfig
from tercet.training.loop.step import chunk, detached, joined


class ProjectionGradient:
    """Computes gradients with the weights of `model`, a plain copy, in evaluation mode."""

    def __init__(self, model: Multimodal, terms: Terms, config: RunConfig, world: World) -> None:
        self.model, self.terms, self.world = model, terms, world
        self.bf16, self.micro_batch = config.precision == "bf16", config.micro_batch
        self.parameters = unlock_projections(model)

    def __call__(self, batch: Batch, step: int) -> Tensor:
        """`[P]`: that of the weighted sum of all terms at this step, over the batches of all ranks. A collective."""
        rows = self.micro_batch
        chunks = [batch] if rows is None else chunk(batch, rows, self.world)
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bf16):
            parts = [self.model(part) for part in chunks]
        vectors = joined(chunks, [part for part, _ in parts])
        outcome = self.terms(batch, vectors, detached(parts[0][1]), self.world, step=step)
        total = torch.zeros((), device=self.world.device)
        for index, (part, _) in enumerate(parts):
            for name, z_nd in part.items():
                slope_nd = outcome.rows[name] if rows is None else outcome.rows[name][index * rows : (index + 1) * rows]
                total = total + (z_nd[: len(slope_nd)] * slope_nd[:, : z_nd.shape[1]]).sum()
        slopes = torch.autograd.grad(total, self.parameters, materialize_grads=True)
        return self.world.sum(torch.cat([slope.flatten() for slope in slopes]))


def unlock_projections(model: Multimodal) -> list[nn.Parameter]:
    """The projections of the head, which are all that gets a gradient from now on."""
    model.eval().requires_grad_(False)
    head = model.head
    for name, projection in head.projections.items():
        if isinstance(projection, nn.Identity):
            identity = nn.Linear(head.dim, head.dim, bias=False, device=next(model.parameters()).device)
            nn.init.eye_(identity.weight)
            head.projections[name] = identity
    head.projections.requires_grad_()
    return list(head.projections.parameters())
