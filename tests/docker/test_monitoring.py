"""Rules and dashboard: checked with their tools, then on a real Prometheus that scrapes a real server."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from deployment import CHART, DOCKER, for_this_machine
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, ROOT

from server.process import running_server

RULES = DOCKER / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana" / "dashboards" / "triton.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
QUERIES = [
    pytest.param(target["expr"], id=f"{title} {target['refId']}")
    for title, panel in PANELS.items()
    for target in panel["targets"]
]
GRAFANA_VARIABLES = {"$__rate_interval": "1m", "$instance": ".*", "$recognizer": ".*"}
SECONDS_OF_LOAD = 15
AS_IF_IN_KUBERNETES = {"namespace": "asr", "pod": "speech-nemo-triton-0"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_no_error(prometheus_bin: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([prometheus_bin / "promtool", *arguments], cwd=RULES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_alert_has_a_test() -> None:
    rules = alert_rules()
    tests = yaml.safe_load((RULES / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules if "alert" in rule}


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Paths of values in `before` that `after` lacks or has changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            difference
            for key in before
            for difference in (
                differences(before[key], after[key], f"{path}/{key}") if key in after else [f"{path}/{key}"]
            )
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [
            difference
            for index, (first, second) in pairs
            for difference in differences(first, second, f"{path}/{index}")
        ]
    return [] if before == after else [path]


def test_grafanas_types_know_every_field_of_the_dashboard() -> None:
    plugins.register_default_plugins()

    def read_and_write(dashboard: dict[str, Any]) -> Any:
        return json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard)))

    assert differences(DASHBOARD, read_and_write(DASHBOARD)) == []
    misspelt = json.loads(json.dumps(DASHBOARD).replace('"expr"', '"exprr"'))
    assert differences(misspelt, read_and_write(misspelt))


def test_panels_do_not_overlap_and_name_the_provisioned_source() -> None:
    occupied: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not occupied & cells and place["x"] + place["w"] <= 24, panel["title"]
        occupied |= cells
    (source,) = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in PANELS.values() for target in panel["targets"]}
    assert used == {source["uid"]}


class Prometheus:
    """A running Prometheus, queried as of `time` in Unix seconds."""

    def __init__(self, url: str, time: float) -> None:
        self.url = url
        self.time = time

    def get(self, path: str, **parameters: str) -> Any:
        address = f"{self.url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]

    def series(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Series of a query's result as (labels, value)."""
        result = self.get("api/v1/query", query=query, time=str(self.time))["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def values(self, query: str) -> list[float]:
        return [value for _, value in self.series(query)]


@pytest.fixture(scope="module")
def prometheus(
    prometheus_bin: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path
) -> Iterator[Prometheus]:
    """A Prometheus with the project's settings that has scraped a server under load from bench.py."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(RULES / "alerts.yml")]
    with running_server(repository, for_this_machine(server_flags())) as server:
        # DNS does not know the server of this test.
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [server.metrics], "labels": AS_IF_IN_KUBERNETES}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = [
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([prometheus_bin / "prometheus", *flags], stdout=log, stderr=log)
        try:
            bench: list[str | Path] = [
                "client/bench.py",
                "--url",
                server.grpc,
                "--manifest",
                DEMO_MANIFEST,
                "--concurrency",
                "8",
            ]
            bench += ["--duration", str(SECONDS_OF_LOAD), "--metrics-url", f"http://{server.metrics}/metrics"]
            for model in (DEMO_CHECKPOINT.stem, "coffee_rnnt"):
                subprocess.run(
                    [sys.executable, *bench, "--model", model], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
                )
            yield Prometheus(f"http://{address}", time.time())
        finally:
            process.terminate()
            process.wait()


def server_flags() -> list[str]:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    flags = compose["services"]["server-cpu"]["command"]
    return [re.sub(r"\$\{\w+:-(\w*)\}", r"\1", flag) for flag in flags]


def without_grafana(query: str) -> str:
    for name, value in GRAFANA_VARIABLES.items():
        query = query.replace(name, value)
    return query


@pytest.mark.parametrize("query", QUERIES)
def test_every_panel_has_data(prometheus: Prometheus, query: str) -> None:
    values = prometheus.values(without_grafana(query))
    if "nv_gpu_" in query and not values:
        pytest.skip("no GPU here")
    assert values and all(value >= 0 for value in values), values


def test_the_figures_match_the_load(prometheus: Prometheus) -> None:
    window = f"{2 * SECONDS_OF_LOAD + 30}s"
    audio = sum(json.loads(line)["duration"] for line in DEMO_MANIFEST.read_text().splitlines())
    mean = audio / len(DEMO_MANIFEST.read_text().splitlines())
    (seconds,) = prometheus.values(f"max_over_time(nemo_triton_audio_seconds{{model='audio'}}[{window}])")
    (requests,) = prometheus.values(f'max_over_time(nv_inference_request_success{{model="audio"}}[{window}])')
    assert seconds / requests == pytest.approx(mean, rel=0.2)
    recognizers = prometheus.series(without_grafana(PANELS["Requests"]["targets"][0]["expr"]))
    assert {labels["model"] for labels, _ in recognizers} == {
        "coffee_ctc",
        "coffee_ctc_float",
        "coffee_ctc_float_log_probs",
        "coffee_ctc_log_probs",
        "coffee_rnnt",
        "coffee_rnnt_float",
    }
    stages = prometheus.series(without_grafana(PANELS["Batch size"]["targets"][0]["expr"]))
    batch_sizes = {labels["model"]: value for labels, value in stages}
    assert {"audio", "coffee_rnnt_encoder", "coffee_rnnt_decoder"} <= set(batch_sizes)
    assert batch_sizes["coffee_rnnt_encoder"] > 1


def test_rules_are_healthy_and_no_alert_fires(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + 30
    while True:
        rules = [rule for group in prometheus.get("api/v1/rules")["groups"] for rule in group["rules"]]
        if all(rule["health"] != "unknown" for rule in rules) or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []
    (seconds,) = prometheus.values("triton:queue_seconds:worst_stage")
    assert 0 < seconds < 10


def test_the_autoscalers_query_has_a_value(prometheus: Prometheus) -> None:
    with helm.Chart.load(CHART) as chart:
        files = chart.render({"autoscaling": {"enabled": True}}, name="speech", namespace="asr")
    (trigger,) = yaml.safe_load(files["nemo-triton/templates/scaledobject.yaml"])["spec"]["triggers"]
    (milliseconds,) = prometheus.values(trigger["metadata"]["query"])
    (rule,) = [rule for rule in alert_rules() if rule.get("record") == "triton:queue_seconds:worst_stage"]
    (seconds,) = prometheus.values(rule["expr"])
    assert 0 < milliseconds < 10_000
    assert milliseconds / 1000 == pytest.approx(seconds)
    assert prometheus.values(trigger["metadata"]["query"].replace("asr", "elsewhere")) == []
