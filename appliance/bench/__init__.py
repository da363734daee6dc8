"""Benchmarks: paired ratios measured in one run, on the machine at hand. Never part of the tests."""
