"""How to train, by how many pairs there are: the one place of the numbers, each with where it stands written.

What `tercet recipes new` proposes is taken from here, and `docs/choose.md` says the same. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

GAO = "Gao et al. 2021"
GOYAL = "Goyal et al. 2023"
LI = "Li et al. 2024"
RADFORD = "Radford et al. 2021"
WU = "Wu et al. 2023"
ZANELLA = "Zanella & Ben Ayed 2024"
ZHAI = "Zhai et al. 2022"
DEMO = "the recipe `demo`"

PICTURES, SOUNDS = frozenset(("image", "text")), frozenset(("audio", "text"))
NUMBERS = ("batch_size", "lr", "warmup", "weight_decay", "betas", "epochs")


@dataclass(frozen=True)
class Way:
    """One way to train data of these modalities: a recipe to extend, and the numbers that are its own."""

    title: str
    why: str
    modalities: frozenset[str]
    recipe: str | None
    batch_size: int
    lr: float
    warmup: int | float  # steps, or a share of them
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    epochs: int
    sources: Mapping[str, str]  # of NUMBERS
    pretrained: bool = True  # it begins from weights


ADAPTERS = Way(
    title="adapters: LoRA in pretrained towers",
    why="so few pairs would bend whole towers; a few matrices of low rank learn what is new and forget little",
    modalities=PICTURES,
    recipe="finetune_lora",
    batch_size=128,
    lr=2e-4,
    warmup=0,
    weight_decay=0.01,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=20,
    sources=dict.fromkeys(("lr", "weight_decay", "betas"), ZANELLA)
    | {
        "batch_size": f"four times that of {ZANELLA}, who contrast with all classes: here, with the batch",
        "warmup": f"none, as in {ZANELLA}: adapters begin as nothing",
        "epochs": f"{GOYAL}, on their smaller sets",
    },
)
BOTTLENECK = replace(
    ADAPTERS,
    title="adapters: a bottleneck on the outputs of locked towers",
    why=f"so few pairs would bend whole towers; what corrects their outputs ({GAO}) needs no way back through them",
    recipe="finetune_clip",
)
BOTTLENECK_OF_SOUNDS = replace(BOTTLENECK, modalities=SOUNDS, recipe="finetune_clap")
FINETUNING = Way(
    title="fine-tuning of pretrained towers",
    why="enough pairs to move whole towers a little, too few to make them",
    modalities=PICTURES,
    recipe="finetune_clip",
    batch_size=512,
    lr=1e-5,
    warmup=500,
    weight_decay=0.1,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=10,
    sources=dict.fromkeys(NUMBERS, GOYAL),
)
FINETUNING_OF_SOUNDS = replace(
    FINETUNING,
    modalities=SOUNDS,
    recipe="finetune_clap",
    batch_size=768,
    lr=1e-4,
    warmup=3_200,
    weight_decay=0.0,
    epochs=45,
    sources=dict.fromkeys(NUMBERS, WU),
)
LOCKED = Way(
    title="LiT: a locked image tower, and text that learns to read it out",
    why="enough pairs for a text tower, fewer than a good image tower has already seen",
    modalities=PICTURES,
    recipe="finetune_lit",
    batch_size=4096,
    lr=1e-3,
    warmup=0.03,
    weight_decay=0.01,
    betas=(0.9, 0.999),
    eps=1e-8,
    epochs=10,
    sources=dict.fromkeys(NUMBERS, ZHAI) | {"epochs": f"as {GOYAL}; {ZHAI} count steps instead"},
)
SCRATCH = Way(
    title="from scratch",
    why="enough pairs that towers which know nothing catch up",
    modalities=PICTURES,
    recipe="image_text",
    batch_size=8192,
    lr=5e-4,
    warmup=2_000,
    weight_decay=0.2,
    betas=(0.9, 0.98),
    eps=1e-6,
    epochs=32,
    sources=dict.fromkeys(NUMBERS, RADFORD) | {"batch_size": f"the recipe `image_text`: a quarter of {RADFORD}"},
    pretrained=False,
)
SCRATCH_OF_SOUNDS = replace(
    SCRATCH,
    modalities=SOUNDS,
    recipe="audio_text",
    batch_size=2048,
    sources={**SCRATCH.sources, "batch_size": "the recipe `audio_text`"},
)
SCRATCH_OF_ALL = replace(
    SCRATCH,
    modalities=PICTURES | SOUNDS,
    recipe="trimodal",
    batch_size=4096,
    sources={**SCRATCH.sources, "batch_size": "the recipe `trimodal`"},
)
SMALL = Way(
    title="small towers from scratch",
    why=f"smaller towers are the better ones for little data and little compute ({LI})",
    modalities=frozenset(),  # any
    recipe=None,
    batch_size=256,
    lr=2e-3,
    warmup=30,
    weight_decay=0.2,
    betas=(0.9, 0.98),
    eps=1e-6,
    epochs=32,
    sources=dict.fromkeys(("batch_size", "lr", "warmup"), DEMO)
    | dict.fromkeys(("weight_decay", "betas", "epochs"), RADFORD),
    pretrained=False,
)

# Up to so many pairs, the first of these ways that nothing stands against.
FROM_SCRATCH = (SCRATCH, SCRATCH_OF_SOUNDS, SCRATCH_OF_ALL)
SCALES: tuple[tuple[float, tuple[Way, ...]], ...] = (
    (10_000, (ADAPTERS, BOTTLENECK, BOTTLENECK_OF_SOUNDS)),
    (1_000_000, (FINETUNING, FINETUNING_OF_SOUNDS)),
    (20_000_000, (LOCKED, *FROM_SCRATCH)),
    (float("inf"), FROM_SCRATCH),
)


def ways_for(pairs: int, modalities: frozenset[str]) -> list[Way]:
    """In the order of preference; nothing ever stands against small towers."""
    ways = next(ways for most, ways in SCALES if pairs <= most)
    return [*(way for way in ways if way.modalities == modalities), SMALL]


def tuned(pairs: int, modalities: frozenset[str]) -> list[Way]:
    """The ways to go on from given weights, whose owner wants them: with many pairs as with a million."""
    (few, adapters), (_, whole), *_ = SCALES
    ways = adapters if pairs <= few else (*whole, *adapters)
    return [way for way in ways if way.modalities == modalities]
