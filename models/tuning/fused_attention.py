"""Low-rank updates of torch's fused attention: of the stacked projections of query, key and value, and of the output.

It uses the parameters of peft's layer, but not its forward pass; see `lora.py`.
"""

from typing import Any

from peft.tuners.lora.layer import MultiheadAttention
from torch import Tensor, nn
from torch.func import functional_call


class FusedAttention(MultiheadAttention):
    """An `nn.MultiheadAttention` that computes with W + BA. W itself never changes."""

    state_dict = nn.Module.state_dict
    named_modules = nn.Module.named_modules

    def forward(self, query: Tensor, *rest: Any, **options: Any) -> Any:
        attention: Any = self.get_base_layer()
        out = attention.out_proj
        weights = {
            "in_proj_weight": attention.in_proj_weight + self.get_delta_weight("default"),
            "out_proj.base_layer.weight": out.get_base_layer().weight + out.get_delta_weight("default"),
        }
        return functional_call(attention, weights, (query, *rest), options)
