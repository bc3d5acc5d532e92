"""Training: recipes, the loop and its engines, checkpoints, memories, selection and loggers."""
