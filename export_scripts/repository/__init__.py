"""The Triton side: configurations, checks, publishing."""
