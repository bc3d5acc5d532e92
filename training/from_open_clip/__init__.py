"""Recipes from command lines of open_clip_train 3.3.0: every flag of its parser stands in one table.

A flag becomes keys of the recipe, or is told as one that differs, has no counterpart, or is not needed here; their
defaults count like what was given.
"""

from tercet.training.from_open_clip.recipe import Translation, translate

__all__ = ["Translation", "translate"]
