"""The 22 architectures at full size with random weights: served text compared with NeMo's."""
