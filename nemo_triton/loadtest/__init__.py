"""Load test of a served recognizer: throughput, latency, batching and word error rate.

How a run goes: commands/bench.py reads the options. reading.read_into_spool decodes the audio into a temporary file
(spool.py), and run.BenchRun runs one load after the other. measure.measure sends the requests of a schedule.Plan
through sender.py and reads the servers' counters before and after. slo.find_highest_rate chooses the loads of a search
for a rate. run_log writes each response to a file. figures.build_results computes the figures, and terminal/tables.py
prints them.
"""
