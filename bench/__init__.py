"""Benchmarks: one question per file, subjects side by side in one run.  See harness.py; `python -m bench.packets --help`."""
