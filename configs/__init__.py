"""Recipes and the strict, typed configs that they fill. Nothing here imports torch."""
