"""One-off studies, reproducible and outside the suite."""
