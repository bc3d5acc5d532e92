"""Reads models of other libraries, and exports models."""
