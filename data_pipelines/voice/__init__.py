"""How voices sound, as numbers and as captions: pitch, loudness, jitter, shimmer and duration."""
