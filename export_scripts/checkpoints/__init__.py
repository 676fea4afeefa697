"""The NeMo side: checkpoints, what is read from them, and what NeMo makes of an utterance."""
