"""The suites of tools/bench.py, one module each."""
