"""The Triton side: model names, configurations, validation, publishing."""
