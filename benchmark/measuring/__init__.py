"""What `benchmark.run` and `benchmark.compare` measure."""
