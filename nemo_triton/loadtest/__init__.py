"""Puts load on a served recognizer and measures throughput, latency, batching and word error rate.

One bench run: commands/bench.py reads the flags, run.BenchRun reads the audio and puts on one load after the other,
measure.measure sends a schedule.Plan of requests through sender.py and reads the servers' counters around it, run_log
keeps each response, figures.build_results calculates, and terminal/tables.py prints.
"""
