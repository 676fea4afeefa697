"""Overload: useful throughput, latency and refusals with bounded and unlimited queues."""
