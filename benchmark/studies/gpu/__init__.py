"""Served models on a GPU, beside PyTorch and the roofline; what needs none of it runs on a CPU too."""
