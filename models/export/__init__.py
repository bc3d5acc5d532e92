"""Writes a model for others to load: one module for each format, and the config of its options in `config.py`."""
