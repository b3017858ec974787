"""Benchmarks, one short module each: `python -m pipelines.hpatches --help`."""
