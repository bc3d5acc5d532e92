"""Whether two models read the same input, so that both can embed one batch."""

import torch

from tercet.data_pipelines.sample import AudioIntake, ImageIntake, Intake, TextIntake

CAPTIONS = ["", "A photo of 2 small dogs, not cats!", "Ein Zug fährt über die Brücke; der Fluß glänzt.", "word " * 300]


def difference(theirs: Intake, ours: Intake) -> str:
    """In what the input of a model differs from ours; empty if in nothing that matters."""
    if isinstance(theirs, ImageIntake) and isinstance(ours, ImageIntake):
        sizes = [f"{height} × {width}" for height, width in (theirs.size, ours.size)]
        if theirs.alpha != ours.alpha:
            return f"takes pictures {'with' if theirs.alpha else 'without'} a mask (`alpha`), unlike those"
        return "" if theirs.size == ours.size else f"takes pictures of {sizes[0]} pixels, not the {sizes[1]}"
    if isinstance(theirs, AudioIntake) and isinstance(ours, AudioIntake):
        return "" if theirs.rate == ours.rate else f"takes sounds at {theirs.rate:,} Hz, not the {ours.rate:,} Hz"
    if isinstance(theirs, TextIntake) and isinstance(ours, TextIntake):
        tokens = [intake.tokenize(CAPTIONS) for intake in (theirs, ours)]
        return "" if torch.equal(*tokens) else "has another tokenizer or context length than that"
    return "" if theirs == ours else "takes other input than that"
