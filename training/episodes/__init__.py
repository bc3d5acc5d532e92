"""Episodes: steps at which a run embeds training samples, so that memories and orders can compute from the vectors."""
