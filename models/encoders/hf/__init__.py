"""Towers from the transformers library: models in folders and in repositories of Hugging Face."""
