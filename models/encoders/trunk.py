"""The last part of all small towers: transformer blocks and mean pooling.

Shape letters: n rows, L tokens, D the tower's width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tercet.models.encoders.block_dropout import drop_inputs
from tercet.models.encoders.encoder import Encoded, Encoder, parameters_of


class TransformerBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """`x` is `[n, L, D]`. No token attends to tokens that are not `valid` `[n, L]`."""
        n, length, width = x.shape
        query, key, value = self.qkv(self.norm_attention(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if valid is None else valid[:, None, None]
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
        x = x + self.mlp(self.norm_mlp(x))
        return x


class Trunk(nn.Module):
    """Transformer blocks, a final norm and the mean over the valid tokens."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.checkpointing = False

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Encoded:
        for layer in self.layers:
            x = checkpoint(layer, x, valid, use_reentrant=False) if self.checkpointing else layer(x, valid)
        x = self.norm(x)
        if valid is None:
            return Encoded(x.mean(1), x, torch.full(x.shape[:1], x.shape[1], device=x.device))
        weight = valid[..., None].to(x.dtype)
        return Encoded((x * weight).sum(1) / weight.sum(1), x, valid.sum(1))

    def blocks(self) -> list[list[nn.Parameter]]:
        groups = [parameters_of(layer) for layer in self.layers]
        groups[-1] += parameters_of(self.norm)
        return groups


class SmallTower(Encoder):
    """A tower that ends in a trunk. `unlocked` counts the blocks of the trunk."""

    trunk: Trunk

    def add_dropout(self, share: float) -> None:
        drop_inputs(self.trunk.layers, share)

    def blocks(self) -> list[list[nn.Parameter]]:
        return self.trunk.blocks()

    def checkpoint_gradients(self) -> None:
        self.trunk.checkpointing = True
