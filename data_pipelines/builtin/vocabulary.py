"""The vocabulary of the generated world: attributes of objects, their synonyms and translations, and unseen pairings.

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

# Nouns with their gender; adjectives in the masculine and, if it differs, the feminine. German adds its own endings.
TRANSLATIONS: dict[str, dict[str, str]] = {
    "de": {
        "circle": "Kreis, m", "square": "Quadrat, n", "triangle": "Dreieck, n", "star": "Stern, m",
        "cross": "Kreuz, n", "heart": "Herz, n", "ring": "Ring, m", "diamond": "Raute, f",
        "red": "rot", "orange": "orangefarben", "yellow": "gelb", "green": "grün", "cyan": "türkisfarben",
        "blue": "blau", "purple": "violett", "pink": "rosafarben", "brown": "braun", "white": "weiß",
        "small": "klein", "large": "groß", "plain": "einfarbig", "striped": "gestreift", "dotted": "gepunktet",
        "left": "links von", "right": "rechts von", "above": "über", "below": "unter", "and": "und",
    },
    "es": {
        "circle": "círculo, m", "square": "cuadrado, m", "triangle": "triángulo, m", "star": "estrella, f",
        "cross": "cruz, f", "heart": "corazón, m", "ring": "anillo, m", "diamond": "rombo, m",
        "red": "rojo/roja", "orange": "naranja", "yellow": "amarillo/amarilla", "green": "verde", "cyan": "turquesa",
        "blue": "azul", "purple": "morado/morada", "pink": "rosa", "brown": "marrón", "white": "blanco/blanca",
        "small": "pequeño/pequeña", "large": "grande",
        "plain": "liso/lisa", "striped": "rayado/rayada", "dotted": "punteado/punteada",
        "left": "a la izquierda de", "right": "a la derecha de", "above": "encima de", "below": "debajo de", "and": "y",
    },
    "fr": {
        "circle": "cercle, m", "square": "carré, m", "triangle": "triangle, m", "star": "étoile, f",
        "cross": "croix, f", "heart": "cœur, m", "ring": "anneau, m", "diamond": "losange, m",
        "red": "rouge", "orange": "orange", "yellow": "jaune", "green": "vert/verte", "cyan": "turquoise",
        "blue": "bleu/bleue", "purple": "violet/violette", "pink": "rose", "brown": "brun/brune",
        "white": "blanc/blanche", "small": "petit/petite", "large": "grand/grande",
        "plain": "uni/unie", "striped": "rayé/rayée", "dotted": "pointillé/pointillée",
        "left": "à gauche d'", "right": "à droite d'", "above": "au-dessus d'", "below": "au-dessous d'", "and": "et",
    },
}  # fmt: skip

PAIRINGS = tuple(product(SHAPES, COLOURS))
# Three neighbouring colours for each shape, shifted from shape to shape: every colour is still seen on most shapes.
HELD_OUT = frozenset(
    (shape, COLOURS[(3 * row + column) % len(COLOURS)]) for row, shape in enumerate(SHAPES) for column in range(3)
)


def vocabulary() -> dict[str, list[str]]:
    """The canonical class names of every attribute and of the relation."""
    return {name: list(words) for name, words in {**ATTRIBUTES, "relation": RELATIONS}.items()}
