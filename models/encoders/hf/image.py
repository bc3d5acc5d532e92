"""Image towers from Hugging Face: the image halves of CLIP and SigLIP, and single encoders such as ViT and DINOv2.

The tower gets the same pixels as from the image processor of the folder. If that processor crops after resizing, as for
DINOv2, the tower crops.

Shape letters: n rows, H height, W width, D the tower's width.
"""

from collections.abc import Callable
from inspect import signature
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders.encoder import Encoded
from tercet.models.encoders.hf.folder import load, read_config, read_image_processor
from tercet.models.encoders.hf.parts import check_reads, load_part, part_of, width_of
from tercet.models.encoders.hf.pixels import pixels_of
from tercet.models.encoders.hf.tower import HfTower, check_options
from tercet.models.encoders.image import ImageEncoder

CLASSED = ("vit", "deit", "beit", "dinov2", "dinov2_with_registers", "dinov3_vit")  # the first token is a class token
POOLS: dict[str, Callable[[Any], Tensor]] = {
    "cls": lambda output: output.last_hidden_state[:, 0],
    "mean": lambda output: output.last_hidden_state.mean(1),
}


class HfImage(HfTower, ImageEncoder):
    """The vector of a half; for a single encoder, the class token or, with `pool: mean`, the mean over all tokens."""

    def __init__(self, name: str, config: TowerConfig) -> None:
        found = read_config("model.image.encoder", name)
        check_reads("image", name, found)
        part = part_of("image", found)
        if config.patch_dropout:
            raise UserError("model.image.patch_dropout: towers of Hugging Face do not support it; leave it out")
        check_options("image", config.encoder, config.options, ("pool",) if part is None else ())
        pool = _pool(name, found.model_type, config.options) if part is None else attrgetter(part.vector)
        pixels = pixels_of(name, read_image_processor(name), config.size)
        super().__init__(pixels.intake, pixels.mean, pixels.std)
        if part is None:
            self.model = load("model.image.encoder", name, "AutoModel", found, unused=("pooler", "mask_token"))
        else:
            self.model = load_part("model.image.encoder", name, part, found)
        self.projects, self.part = part is not None and part.projects, part.kind if part else ""
        self.prefix = _prefix(self.part, self.model.config)
        self.width, self.seen, self.pool = width_of(self.model.config, part), pixels.seen, pool
        self.native = getattr(self.model.config, "image_size", None)
        self.interpolates = "interpolate_pos_encoding" in signature(self.model.forward).parameters

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.pool(self._run(values))

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        """The patches of a ViT or, of the halves, those of CLIP through its last norm and its projection."""
        if self.part and not self.part.startswith("CLIP"):
            raise self.lacks_tokens()
        output = self._run(values)
        if output.last_hidden_state.ndim != 3:
            raise self.lacks_tokens()
        patches_nLD = output.last_hidden_state[:, self.prefix :]
        if self.part:
            trunk = self.model.vision_model if self.projects else self.model
            patches_nLD = trunk.post_layernorm(patches_nLD)
        tokens_nLD = self.model.visual_projection(patches_nLD) if self.projects else patches_nLD
        counts_n = torch.full(tokens_nLD.shape[:1], tokens_nLD.shape[1], device=values.device)
        return Encoded(self.pool(output), tokens_nLD, counts_n)

    def _run(self, values: Tensor) -> Any:
        """Only pictures of the intake's size are cropped. The model interpolates its positions for other sizes."""
        own = tuple(values.shape[2:]) == self.intake.size
        pixels = self.normalise(_centre(values, self.seen) if own else values)
        size = tuple(pixels.shape[2:])
        other = self.interpolates and self.native not in (size[0], list(size), size)
        return self.model(pixel_values=pixels, **({"interpolate_pos_encoding": True} if other else {}))


def _prefix(part: str, config: Any) -> int:
    """How many tokens come before the patches: class tokens and registers."""
    classes = 2 if config.model_type == "deit" else int(bool(part) or config.model_type in CLASSED)
    return classes + int(getattr(config, "num_register_tokens", 0))


def _centre(values_nCHW: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((side - seen) // 2 for side, seen in zip(values_nCHW.shape[2:], size, strict=True))
    return values_nCHW[:, :, top : top + size[0], left : left + size[1]]


def _pool(name: str, kind: str, options: dict[str, object]) -> Callable[[Any], Tensor]:
    choice = str(options.get("pool", "cls" if kind in CLASSED else "mean"))
    if choice not in POOLS:
        raise UserError(f"model.image.options.pool: `hf:{name}` has no pooling `{choice}`; use cls or mean")
    return POOLS[choice]
