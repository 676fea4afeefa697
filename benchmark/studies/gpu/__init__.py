"""Benchmarks on a GPU: served models compared with PyTorch and with the roofline. They run on a CPU too."""
