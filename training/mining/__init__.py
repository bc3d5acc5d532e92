"""Mines hard negatives: the nearest samples of each sample that do not describe the same thing."""
