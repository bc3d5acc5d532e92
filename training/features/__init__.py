"""Stored features: the outputs of locked towers, which a run reads instead of computing them."""
