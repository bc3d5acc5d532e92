"""Translates command lines of open_clip_train 3.3.0 to recipes. One table has every flag of its parser.

A flag becomes keys of the recipe, or a note that it differs, has no counterpart or is not needed. The defaults of
open_clip_train are translated like values on the command line.
"""

from tercet.training.from_open_clip.recipe import Translation, translate

__all__ = ["Translation", "translate"]
