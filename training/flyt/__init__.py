"""FLYT: learns to score pairs, so that a training step on those with high scores lowers the loss on a target set."""
