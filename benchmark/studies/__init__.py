"""One-off studies: reproducible, but not part of the benchmark suite."""
