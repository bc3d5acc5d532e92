"""How the image processor of a folder prepares images: size, interpolation, crop, mean and deviation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from tercet.data_pipelines.sample import ImageIntake
from tercet.errors import UserError

WHOLE = ((0.0,) * 3, (1.0,) * 3)  # mean and deviation without normalisation


@dataclass(frozen=True)
class Pixels:
    """The images that the loader provides, the size of the centre that the tower sees, and the normalisation."""

    intake: ImageIntake
    seen: tuple[int, int]
    mean: Sequence[float]
    std: Sequence[float]


def pixels_of(name: str, processor: Any, side: int | None) -> Pixels:
    """The settings of the processor, or squares of another `side` without a crop."""
    size, crop = processor.size, processor.crop_size if getattr(processor, "do_center_crop", None) else None
    pressed = size.height is not None
    if side is not None:
        handed = seen = (side, side)
    elif not processor.do_resize or not (pressed or (size.shortest_edge and crop)):
        raise UserError(
            f"model.image.size: the image processor of `hf:{name}` does not resize all images to one size; "
            "set model.image.size to a number of pixels"
        )
    else:
        handed = (size.height, size.width) if pressed else (size.shortest_edge, size.shortest_edge)
        seen = (crop.height, crop.width) if crop else handed
        if seen[0] > handed[0] or seen[1] > handed[1]:
            raise UserError(
                f"model.image.size: `hf:{name}` pads its images, which is not supported; set it to {seen[0]}"
            )
    interpolation = Image.Resampling(processor.resample).name.lower()
    intake = ImageIntake(handed, interpolation, "squash" if pressed else "shortest")
    return Pixels(intake, seen, *_statistics(processor))


def _statistics(processor: Any) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels from 0 to 1. Some processors rescale to another range first."""
    range_ = 255 * processor.rescale_factor if processor.do_rescale else 255.0
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else WHOLE
    return [value / range_ for value in mean], [value / range_ for value in std]
