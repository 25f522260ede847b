"""Benchmarks: test sets, evaluation protocol, baselines, published results, tables."""

from __future__ import annotations

from vheatir.evaluation.baselines import bm3d_method
from vheatir.evaluation.benchmark_sets import BenchmarkSet, bundled_test_set, find_test_sets
from vheatir.evaluation.methods import Method, model_method
from vheatir.evaluation.protocol import Measured, measure
from vheatir.evaluation.published import published_records
from vheatir.evaluation.records import DEGRADED, Record
from vheatir.evaluation.tables import print_task, save_results, to_markdown

__all__ = [
    "DEGRADED",
    "BenchmarkSet",
    "Measured",
    "Method",
    "Record",
    "bm3d_method",
    "bundled_test_set",
    "find_test_sets",
    "measure",
    "model_method",
    "print_task",
    "published_records",
    "save_results",
    "to_markdown",
]
