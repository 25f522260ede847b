"""Benchmarks: test sets, evaluation protocol, baselines, published results, tables."""
