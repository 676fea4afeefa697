"""The NeMo side: checkpoints, what is read from them, and NeMo's own results."""
