"""The vocabulary of the generated world: attributes of objects, their synonyms, and the pairings that stay unseen.

Class names, metadata and the first caption of a scene use canonical words; synonyms appear only in paraphrases.
"""

from itertools import product

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
RELATIONS = ("left", "right", "above", "below")  # of the first object to the second

ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

PREPOSITION = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}

SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("disc",),
    "square": ("box",),
    "star": ("asterisk",),
    "cross": ("plus",),
    "ring": ("hoop",),
    "diamond": ("rhombus", "lozenge"),
    "red": ("crimson", "scarlet"),
    "yellow": ("golden",),
    "cyan": ("turquoise",),
    "purple": ("violet",),
    "pink": ("rosy",),
    "brown": ("chestnut",),
    "small": ("little", "tiny"),
    "large": ("big", "huge"),
    "plain": ("solid", "even"),
    "striped": ("stripy", "banded"),
    "dotted": ("spotted", "speckled"),
    "to the left of": ("left of", "on the left side of"),
    "to the right of": ("right of", "on the right side of"),
    "above": ("over", "higher than"),
    "below": ("under", "beneath"),
}

PAIRINGS = tuple(product(SHAPES, COLOURS))
# Three neighbouring colours for each shape, shifted from shape to shape: every colour is still seen on most shapes.
HELD_OUT = frozenset(
    (shape, COLOURS[(3 * row + column) % len(COLOURS)]) for row, shape in enumerate(SHAPES) for column in range(3)
)


def vocabulary() -> dict[str, list[str]]:
    """The canonical class names of every attribute and of the relation."""
    return {name: list(words) for name, words in {**ATTRIBUTES, "relation": RELATIONS}.items()}
