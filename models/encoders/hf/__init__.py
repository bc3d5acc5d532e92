"""Towers of transformers: folders and repositories of Hugging Face, read as they are."""
