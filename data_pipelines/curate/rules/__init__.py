"""Rules that decide which samples to keep, by the values of a score table. One file for each family."""
