"""Benchmarks of tercet against peers; the sides alternate in one process. `claims` compares methods with each other.

A benchmark is a module with `run(arguments) -> list[BenchRow]`.
"""
