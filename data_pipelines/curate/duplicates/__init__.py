"""Which samples show, sound or say the same: the group `duplicates`."""
