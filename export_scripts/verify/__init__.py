"""Compares the written stages with NeMo."""
