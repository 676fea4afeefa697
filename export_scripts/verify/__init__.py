"""Compare the written stages with NeMo."""
