"""Benchmarks; run them from the project's root as ``python -m benchmarks.NAME``."""
