"""What pictures, sounds and captions tell about themselves, without a model: the group `signals`."""
