"""Served models on a GPU, beside PyTorch and the bound that the chip sets; what needs none of it runs on a CPU too."""
