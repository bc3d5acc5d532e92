"""Benchmarks of tercet against peers; the sides alternate in one process.

A benchmark is a module with `run(arguments) -> list[BenchRow]`.
"""
