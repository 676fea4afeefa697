"""The program that counts what one sick server of two costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from servers import Triton

from benchmark.core.run_bench import Bench
from nemo_triton.demo_speech import MANIFEST
from verification.faults.sick_server import markdown, measure
from verification.faults.sick_servers import FAULTS
from verification.faults.stage_kill import run_undisturbed

REQUESTS = 60


def test_a_sick_server_loses_no_request(triton: Triton, tmp_path: Path) -> None:
    bench = Bench(model=triton.model, url=triton.url, manifest=MANIFEST, flags=("--concurrency", "4"))
    undisturbed, texts = run_undisturbed(bench, tmp_path, REQUESTS)
    name, fault = next(iter(FAULTS.items()))
    run = measure(bench, name, fault, texts, tmp_path, REQUESTS)
    assert not run.lost(REQUESTS)
    assert 0 < run.recognitions < REQUESTS / 2
    page = markdown(triton.model, undisturbed, [run], sent=REQUESTS, concurrency=4)
    assert "**0 of 1 faults lost a request or changed a text.**" in page
    changed = replace(run, requests=replace(run.requests, changed=1))
    page = markdown(triton.model, undisturbed, [run, changed], sent=REQUESTS, concurrency=4)
    assert "**1 of 2 faults lost a request or changed a text.**" in page
