"""Changes to given towers: locking, low-rank updates, adapters and interpolation."""
