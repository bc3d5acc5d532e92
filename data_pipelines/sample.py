"""Sample, Field and Batch: the types that data, models and training share.

Shape letters: B items of a batch, n rows of a field, C channels, H height, W width, T audio samples, L tokens.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tercet.modality import modality_of as modality_of

Media = NDArray[Any]  # a decoded picture, sound or array of a plugin
Resize = Literal["shortest", "squash"]  # crop to the shape of the intake and resize, or resize without a crop


class Intake(Protocol):
    """The input of a tower: rows of one dtype and shape. `ragged` rows may be shorter along their first axis, or longer
    in evaluation; the batch then holds their lengths."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def ragged(self) -> bool: ...


@dataclass(frozen=True)
class ImageIntake:
    """The input of an image tower: RGB uint8 of this height and width. The tower normalises.

    `alpha`: there is a fourth channel, which is 255 where to look.
    """

    size: tuple[int, int]
    interpolation: str = "bicubic"
    resize: Resize = "shortest"
    alpha: bool = False
    dtype: ClassVar[str] = "uint8"
    ragged: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.size, 4 if self.alpha else 3)


@dataclass(frozen=True)
class AudioIntake:
    """The input of an audio tower: mono float waveforms at this rate. Training crops are `seconds` long.

    `draws`: how many random numbers from [0, 1) each row of a training batch brings along, for what the tower chooses.
    """

    rate: int
    seconds: float
    draws: int = 0
    dtype: ClassVar[str] = "float32"
    ragged: ClassVar[bool] = True

    @property
    def window(self) -> int:
        return round(self.rate * self.seconds)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.window,)


@dataclass(frozen=True)
class TextIntake:
    """The input of a text tower: token ids `[n, L]` from its tokenizer."""

    tokenize: Callable[[list[str]], Tensor]
    dtype: ClassVar[str] = "int64"
    ragged: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tokenize([""]).shape[1:])


@dataclass(frozen=True)
class ArrayIntake:
    """The input of a tower for a modality that a plugin adds."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    ragged: bool = False


@dataclass(frozen=True)
class FeatureIntake:
    """What a tower returned for each sample, in place of the tower's input: vectors of this width, in a folder that
    `tercet embed --format features` wrote.

    `modality`: what was embedded. `further`: the recipe's own field that the vectors are for; empty: the modality's.
    """

    modality: str
    folder: str
    width: int
    further: str = ""
    dtype: ClassVar[str] = "float32"
    ragged: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def field(self) -> str:
        return self.further or self.modality

    @property
    def key(self) -> str:
        """What names the folder in the recipe."""
        return f"fields.{self.further}.features" if self.further else f"model.{self.modality}.cached"


def channels_first(values: Tensor, intake: Intake) -> Tensor:
    """Permutes pictures for the towers, without a copy: in memory the channels stay last."""
    return values.permute(0, 3, 1, 2) if isinstance(intake, ImageIntake) else values


@dataclass(frozen=True)
class Sample:
    """One decoded sample: its media by modality (image uint8 `[H, W, C]`, audio float `[T]`) and its captions.

    `further`: the rows, media or captions, of the fields that a recipe adds. `numbers`: one for each of these captions.
    `masks` `[rows, K, 4]`: the parts of the spectrograms to hide, for each field of sounds. `draws` `[rows, K]`: random
    numbers that the tower of sounds uses. `features` `[D]`: what towers returned, by modality, in place of media.
    """

    key: str
    id: int
    group: int
    media: Mapping[str, Media] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    meta: Mapping[str, object] = field(default_factory=dict)
    further: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    masks: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    draws: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def media_rows(self, name: str) -> tuple[Media, ...]:
        """The media of a field, or the features in their place."""
        if name in self.features:
            return (self.features[name],)
        return (self.media[name],) if name in self.media else self.further.get(name, ())

    def captions(self, name: str) -> tuple[str, ...]:
        """The captions of a field."""
        return self.text if name == "text" else self.further.get(name, ())

    @property
    def image(self) -> NDArray[np.uint8] | None:
        """The picture in RGB."""
        found = self.media.get("image")
        return None if found is None else found[..., :3]

    @property
    def audio(self) -> NDArray[np.float32] | None:
        return self.media.get("audio")


@dataclass(frozen=True)
class Field:
    """The existing rows of a field, and the item of the batch that each belongs to (ascending).

    `values`: image uint8 `[n, C, H, W]`, audio float `[n, T]` with the valid `lengths` `[n]`, text int64 `[n, L]`;
    for other modalities, the shape and dtype of their intake. Sounds of a training batch may have `masks` `[n, K, 4]`:
    the parts of their spectrograms to hide, and `draws` `[n, K]`: random numbers that their tower uses. Captions
    may have a `number` each `[n]`. `reduced` `[n]`: the pictures that the tower gets at a smaller size, as a recipe
    says in `selection.scoring`.
    """

    modality: str
    values: Tensor
    item: Tensor
    lengths: Tensor | None = None
    masks: Tensor | None = None
    number: Tensor | None = None
    reduced: Tensor | None = None
    draws: Tensor | None = None
    cached: bool = False

    def __len__(self) -> int:
        return len(self.item)

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """The arguments of the tower. Only audio towers take masks, and only those that use draws take them."""
        if self.draws is not None:
            return self.values, self.lengths, self.masks, self.draws
        return (self.values, self.lengths) if self.masks is None else (self.values, self.lengths, self.masks)

    def rows(self, start: int, stop: int) -> "Field":
        return self.each(lambda tensor: tensor[start:stop])

    def of_items(self, new_b: Tensor) -> "Field":
        """The rows of some items. `new_b`: the new number of each item, or -1 to drop it."""
        item_n = new_b[self.item]
        kept_n = item_n >= 0
        return replace(self.where(kept_n), item=item_n[kept_n])

    def to(self, device: torch.device) -> "Field":
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> "Field":
        return self.each(Tensor.pin_memory)

    def where(self, chosen_n: Tensor) -> "Field":
        """The rows that a mask selects."""
        return self.each(lambda tensor: tensor[chosen_n])

    def each(self, change: Callable[[Tensor], Tensor]) -> "Field":
        """Changes all tensors."""
        optional = (self.lengths, self.masks, self.number, self.reduced, self.draws)
        changed = [None if tensor is None else change(tensor) for tensor in optional]
        lengths, masks, number, reduced, draws = changed
        values, item = change(self.values), change(self.item)
        return Field(self.modality, values, item, lengths, masks, number, reduced, draws, self.cached)


@dataclass(frozen=True)
class Batch:
    """This rank's items of a global batch: their ids, which are dense and stable, their groups, and their fields.

    `values` has further numbers of each item, by name. `seeds` `[B]`: the keys of the items' views, if the recipe has a
    fixed number of views of each sample. `epochs` `[B]`: those that drew the random crops and captions, if the pictures
    of some items are decoded again.
    """

    ids: Tensor
    groups: Tensor
    fields: Mapping[str, Field]
    samples: tuple[Sample, ...] = ()  # for evaluation and galleries; empty in training
    cursors: Mapping[str, int] = field(default_factory=dict)  # the position of each source after this batch
    values: Mapping[str, Tensor] = field(default_factory=dict)
    seeds: Tensor | None = None
    epochs: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[str, Field]]:
        return iter(self.fields.items())

    def items(self, keep: Tensor) -> "Batch":
        """The items at these places (ascending), with all their rows of every field."""
        new_b = torch.full_like(self.ids, -1)
        new_b[keep] = torch.arange(len(keep), device=keep.device)
        fields = {name: rows.of_items(new_b) for name, rows in self.fields.items()}
        samples = tuple(self.samples[place] for place in keep.tolist()) if self.samples else ()
        return replace(self.each(lambda tensor: tensor[keep]), fields=fields, samples=samples)

    def to(self, device: torch.device) -> "Batch":
        fields = {name: rows.to(device) for name, rows in self.fields.items()}
        return replace(self.each(lambda tensor: tensor.to(device)), fields=fields)

    def pin(self) -> "Batch":
        """A copy in pinned memory, from which a GPU copies while it computes."""
        return replace(self.each(Tensor.pin_memory), fields={name: rows.pin() for name, rows in self.fields.items()})

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Changes the tensors of all items, but not the fields."""
        values = {name: change(value) for name, value in self.values.items()}
        seeds, epochs = (None if one is None else change(one) for one in (self.seeds, self.epochs))
        return replace(
            self, ids=change(self.ids), groups=change(self.groups), values=values, seeds=seeds, epochs=epochs
        )
