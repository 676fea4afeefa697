"""Puts load on a served recognizer and measures throughput, latency, batching and word error rate."""
