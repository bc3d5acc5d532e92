"""Low-rank updates (Hu et al. 2022) through peft: W + alpha / rank · B A, with W frozen and B initially zero.

For fused attention, peft 0.21 adds the update to the frozen weights and removes it again in every call, and rounding
slowly changes them. Here, the sum exists only during the call.
"""

import warnings
from importlib.util import find_spec

import torch
from torch import nn

from tercet.errors import UserError, did_you_mean
from tercet.models.config import LoraConfig
from tercet.models.encoders.encoder import Encoder
from tercet.models.tuning.plain import accept_plain


def add_lora(encoder: Encoder, config: LoraConfig) -> None:
    """Freezes the tower and adds trainable updates to its layers. Initially, they change nothing."""
    where = f"model.{encoder.modality}.lora"
    if find_spec("peft") is None:
        raise UserError(f"{where} needs peft, which is not installed: pip install 'tercet[lora]'")
    layers = _targets(encoder, config.targets, where)
    fused = [name for name in layers if isinstance(encoder.get_submodule(name), nn.MultiheadAttention)]
    if fused and config.dropout:
        raise UserError(f"{where}.dropout: the fused attention `{fused[0]}` does not support it; set it to 0")
    _inject(encoder, layers, config)
    _check_reached(encoder, where)
    accept_plain(encoder)


def _targets(encoder: Encoder, ends: tuple[str, ...], where: str) -> list[str]:
    """The names of the layers to update."""
    known = _updatable(encoder)
    if not known:
        raise UserError(f"{where}: the tower's blocks have no linear layers to update; use `adapter` or `unlocked`")
    for end in ends:
        if not any(_ends(name, end) for name in known):
            last = dict.fromkeys(name.rpartition(".")[2] for name in known)
            raise UserError(f"{where}.targets: no layer of the blocks ends in `{end}`; {did_you_mean(end, last)}")
    return [name for name in known if not ends or any(_ends(name, end) for end in ends)]


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")


def _updatable(encoder: Encoder) -> list[str]:
    """The linear layers and fused self-attentions of the blocks, without the linear layers inside fused attentions."""
    within = {id(parameter) for block in encoder.blocks() for parameter in block}
    fused = [name for name, module in encoder.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return [
        name
        for name, module in encoder.named_modules()
        if _has_low_rank(module)
        and all(id(parameter) in within for parameter in module.parameters())
        and not any(name.startswith(f"{outer}.") for outer in fused)
    ]


def _has_low_rank(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return bool(module._qkv_same_embed_dim)
    return isinstance(module, nn.Linear)


def _inject(encoder: Encoder, layers: list[str], config: LoraConfig) -> None:
    import peft

    from tercet.models.tuning.fused_attention import FusedAttention

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=layers,
    )
    settings._register_custom_module({nn.MultiheadAttention: FusedAttention})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.inject_adapter_in_model(settings, encoder)


def _check_reached(encoder: Encoder, where: str) -> None:
    """Rejects layers whose weight is read without a call of the layer, because then the update has no effect."""
    encoder.eval()
    with torch.enable_grad():
        encoder(*encoder.dummy(torch.device("cpu"))).sum().backward()
    missed = [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    encoder.zero_grad()
    encoder.train()
    if missed:
        layer = missed[0].partition(".lora_")[0]
        raise UserError(f"{where}: the tower never calls its layer `{layer}`; choose other layers in {where}.targets")
