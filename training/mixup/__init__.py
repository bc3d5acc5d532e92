"""Mixup of one modality in each step."""
