"""The measurements of `benchmark.run` and `benchmark.compare`."""
