"""The last part of all small towers: transformer blocks and mean pooling.

Shape letters: n rows, L tokens, T tokens of all rows without padding, D the tower's width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tercet.models.encoders.block_dropout import drop_inputs
from tercet.models.encoders.encoder import Encoded, Encoder, parameters_of


@dataclass(frozen=True)
class Layout:
    """Which tokens of `[n, L]` exist, and their places among the n · L; None: all."""

    rows: int
    length: int
    valid: Tensor | None
    place: Tensor | None

    @classmethod
    def of(cls, x_nLD: Tensor, valid: Tensor | None) -> "Layout":
        n, length = x_nLD.shape[:2]
        if torch.compiler.is_exporting():  # no shape in a graph may depend on values, so it computes padding too
            return cls(n, length, valid, None)
        if valid is None or valid.all():
            return cls(n, length, None, None)
        return cls(n, length, valid, valid.flatten().nonzero().flatten())

    def pack(self, x_nLD: Tensor) -> Tensor:
        """The tokens that exist, `[T, D]`."""
        x = x_nLD.flatten(0, 1)
        return x if self.place is None else x.index_select(0, self.place)

    def pad(self, x_TD: Tensor) -> Tensor:
        """The tokens by row, `[n, L, D]`, with zeros as padding."""
        if self.place is not None:
            x_TD = x_TD.new_zeros(self.rows * self.length, x_TD.shape[1]).index_copy(0, self.place, x_TD)
        return x_TD.view(self.rows, self.length, -1)


class TransformerBlock(nn.Module):
    """A pre-norm transformer block. Attention alone sees rows; all else is computed for the tokens that exist."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_TD: Tensor, layout: Layout) -> Tensor:
        qkv = layout.pad(self.qkv(self.norm_attention(x_TD)))
        query, key, value = qkv.view(layout.rows, layout.length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if layout.valid is None else layout.valid[:, None, None]
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x_TD = x_TD + self.out(layout.pack(seen.transpose(1, 2).flatten(2)))
        x_TD = x_TD + self.mlp(self.norm_mlp(x_TD))
        return x_TD


class Trunk(nn.Module):
    """Transformer blocks, a final norm and the mean over the valid tokens."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.checkpointing = False

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Encoded:
        """`x` is `[n, L, D]`. No token attends to tokens that are not `valid` `[n, L]`."""
        layout = Layout.of(x, valid)
        x_TD = layout.pack(x)
        for layer in self.layers:
            x_TD = checkpoint(layer, x_TD, layout, use_reentrant=False) if self.checkpointing else layer(x_TD, layout)
        x = layout.pad(self.norm(x_TD))
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
