"""The commands `nemo-triton transcribe`, `nemo-triton bench` and `nemo-triton models`."""
