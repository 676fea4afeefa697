"""Prepared data sets: a NeMo manifest with a description."""
