"""The Helm chart, rendered by Helm's own library and held against the schemas of Kubernetes, KEDA and KServe."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from deployment import CHART, DOCKER, MAKE_CERTIFICATES, TOOLS, for_this_machine
from locations import DEMO_CHECKPOINT

from server.process import running_server

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "gpu": {
        "image": {"repository": "registry.example/nemo-triton-server-gpu", "pullSecrets": [{"name": "key"}]},
        "gpu": {"count": 1, "runtimeClassName": "nvidia"},
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    },
    "object store": {
        "repository": {"url": "s3://bucket/models", "credentialsSecret": "s3"},
        "networkPolicy": {"egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}]},
    },
    "tls": {"tls": {"enabled": True}},
    "mutual tls": {"tls": {"enabled": True, "mutual": True}, "extraArgs": ["--model-control-mode=poll"]},
    "scaled and watched": {
        "autoscaling": {"enabled": True},
        "monitoring": {"podMonitor": True},
        "networkPolicy": {"clients": [], "monitoring": []},
    },
    "open": {"networkPolicy": {"enabled": False}},
}
OLDEST, NEWEST = "1.25", "1.37"
CUSTOM = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1")


def rendered(values: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """What Helm would install, by kind and name."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(dict(values))
        files = chart.render(dict(values), name="speech", namespace="asr")
    manifests = [
        manifest for name, text in files.items() if name.endswith(".yaml") for manifest in yaml.safe_load_all(text)
    ]
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests if manifest}


def container(values: Mapping[str, Any]) -> dict[str, Any]:
    first_container: dict[str, Any] = rendered(values)["Deployment", "speech-nemo-triton"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    return first_container


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_helm_finds_nothing(values: dict[str, Any]) -> None:
    report = helm.lint(CHART, values, strict=True, kube_version=f"v{NEWEST}.0")
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_kubernetes_takes_it(values: dict[str, Any], version: str) -> None:
    manifests = rendered(values)
    for manifest in manifests.values():
        if manifest["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)
    kinds = sorted(kind for kind, _ in manifests)
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= set(kinds) and kinds.count("Service") == 2
    assert ("NetworkPolicy" in kinds) == values.get("networkPolicy", {}).get("enabled", True)


def test_the_schemas_refuse_a_misspelt_field() -> None:
    deployment = rendered({})["Deployment", "speech-nemo-triton"]
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_a_job_fills_the_claim_that_servers_read(version: str) -> None:
    claim, job = yaml.safe_load_all((DOCKER / "export" / "job.yaml").read_text())
    for manifest in (claim, job):
        kubernetes_validate.validate(manifest, version, strict=True)
    deployment = rendered({})["Deployment", "speech-nemo-triton"]
    read, written = (manifest["spec"]["template"]["spec"] for manifest in (deployment, job))
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for pod in (read, written)
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == [claim["metadata"]["name"]] * 2
    assert read["securityContext"]["fsGroup"] == written["securityContext"]["fsGroup"]
    (container,) = written["containers"]
    assert container["args"][-1] == container["volumeMounts"][0]["mountPath"] == "/models"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"repository": {"claim": "", "url": ""}}, "repository"),
        ({"repository": {"url": "https://bucket"}}, "url"),
        ({"gpu": {"count": "one"}}, "count"),
        ({"replica": 3}, "replica"),
        ({"extraArgs": ["model-control-mode=poll"]}, "extraArgs"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=named):
        rendered(values)


@pytest.mark.parametrize("name", ["default", "mutual tls"])
def test_tritonserver_takes_the_flags(repository: Path, tmp_path: Path, name: str) -> None:
    flags = container(VARIANTS[name])["args"]
    if "tls" in VARIANTS[name]:
        subprocess.run([MAKE_CERTIFICATES, tmp_path / "made", "localhost"], check=True, capture_output=True)
        for ours, cert_managers in (("ca.pem", "ca.crt"), ("server.pem", "tls.crt"), ("server.key", "tls.key")):
            (tmp_path / cert_managers).symlink_to(tmp_path / "made" / ours)
    only = ["--model-control-mode=explicit", f"--load-model={DEMO_CHECKPOINT.stem}"]
    with running_server(repository, [*for_this_machine(flags, tls=str(tmp_path)), *only]) as server:
        # Where HTTP is for the probes alone, Prometheus still reads the metrics.
        assert ("Metrics Service at 0.0.0.0" in server.log.read_text()) == ("tls" in VARIANTS[name])


def test_the_headless_service_gives_every_ready_servers_address() -> None:
    manifests = rendered({})
    headless = manifests["Service", "speech-nemo-triton-headless"]["spec"]
    pod = manifests["Deployment", "speech-nemo-triton"]["spec"]["template"]
    assert headless["clusterIP"] == "None" and not headless.get("publishNotReadyAddresses")
    assert headless["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = headless["ports"]
    named = {exposed["name"]: exposed["containerPort"] for exposed in pod["spec"]["containers"][0]["ports"]}
    # A headless service does not translate ports.
    assert port["port"] == named[port["targetPort"]] == 8001
    # Without it a client of gRPC's round_robin would never learn of servers that come later.
    assert "--grpc-max-connection-age=60000" in pod["spec"]["containers"][0]["args"]


def test_http_is_closed_where_grpc_is_by_tls() -> None:
    plain, secure = container({}), container(VARIANTS["tls"])
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    assert [plain[probe]["httpGet"]["path"].rpartition("/")[2] for probe in probes] == ["ready", "ready", "live"]
    assert "--http-address=127.0.0.1" in secure["args"]
    assert [secure[probe]["exec"]["command"] for probe in probes] == [
        ["triton_is", "ready"],
        ["triton_is", "ready"],
        ["triton_is", "live"],
    ]


def test_gpus_are_asked_for() -> None:
    assert "nvidia.com/gpu" not in json.dumps(container({}))
    gpu = container(VARIANTS["gpu"])
    assert gpu["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 1}


def test_the_repository_is_a_volume_or_a_store() -> None:
    assert "--model-repository=/models" in container({})["args"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container({})["volumeMounts"]
    store = container(VARIANTS["object store"])
    assert "--model-repository=s3://bucket/models" in store["args"]
    assert store["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert "models" not in [mount["name"] for mount in store["volumeMounts"]]


def test_a_list_without_clients_lets_nobody_in() -> None:
    policy = rendered(VARIANTS["scaled and watched"])["NetworkPolicy", "speech-nemo-triton"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and not policy["ingress"]
    policy = rendered({})["NetworkPolicy", "speech-nemo-triton"]["spec"]
    assert all(rule["from"] for rule in policy["ingress"])
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["grpc", "metrics"]


def test_what_is_scaled_is_the_deployment_and_only_by_keda() -> None:
    manifests = rendered(VARIANTS["scaled and watched"])
    target = manifests["ScaledObject", "speech-nemo-triton"]["spec"]["scaleTargetRef"]["name"]
    # A number of replicas here would undo the autoscaler's at every upgrade.
    assert "replicas" not in manifests["Deployment", target]["spec"]
    assert rendered({})["Deployment", target]["spec"]["replicas"] == 2


VALIDATE_CUSTOM = """
import { readFileSync } from "node:fs";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
const manifest = JSON.parse(readFileSync(0, "utf8"));
new { ScaledObject, PodMonitor }[manifest.kind](manifest).validate();
"""


@pytest.mark.parametrize("kind", ["ScaledObject", "PodMonitor"])
def test_operators_take_their_resources(kind: str) -> None:
    if not (TOOLS / "node_modules" / "@kubernetes-models" / "keda").exists():
        pytest.skip("the schemas of KEDA and of the Prometheus operator are not here (npm; make docker-tools)")
    manifest = rendered(VARIANTS["scaled and watched"])[kind, "speech-nemo-triton"]

    def validate(manifest: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        script = ["node", "--input-type=module", "--eval", VALIDATE_CUSTOM]
        return subprocess.run(script, input=json.dumps(manifest), capture_output=True, text=True, cwd=TOOLS)

    done = validate(manifest)
    assert done.returncode == 0, done.stderr
    manifest["spec"][{"ScaledObject": "maxReplicaCount", "PodMonitor": "podMetricsEndpoints"}[kind]] = "many"
    assert "must be" in validate(manifest).stderr


def test_kserve_takes_the_variant() -> None:
    types = kserve_types(TOOLS / "kserve" / "kserve" / "models")
    runtime, service = yaml.safe_load_all((DOCKER / "kserve" / "inferenceservice.yaml").read_text())
    assert unknown_fields(runtime, "V1alpha1ServingRuntime", types) == []
    assert unknown_fields(service, "V1beta1InferenceService", types) == []
    assert unknown_fields({"spec": {"predictors": {}}}, "V1beta1InferenceService", types) == ["spec.predictors"]
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "as-kserve-makes-it"},
        "spec": {"containers": runtime["spec"]["containers"]},
    }
    kubernetes_validate.validate(pod, NEWEST, strict=True)


Types = dict[str, dict[str, str]]


def kserve_types(models: Path) -> Types:
    """Of each class of KServe's SDK the type of each field, read from its source: importing it takes all of KServe."""
    if not models.exists():
        pytest.skip("KServe's SDK is not here (make docker-tools)")
    types = {}
    for file in models.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                tables = {
                    target.id: ast.literal_eval(statement.value)
                    for statement in node.body
                    if isinstance(statement, ast.Assign)
                    for target in statement.targets
                    if isinstance(target, ast.Name) and target.id in ("openapi_types", "attribute_map")
                }
                if tables:
                    names, kinds = tables["attribute_map"], tables["openapi_types"]
                    types[node.name] = {names[key]: kinds[key] for key in names}
    return types


def unknown_fields(value: Any, kind: str, types: Types, path: str = "") -> list[str]:
    if element := re.match(r"[Ll]ist\[(.*)\]$", kind):
        return [field for item in value for field in unknown_fields(item, element[1], types, path)]
    if kind not in types:
        return []
    fields = []
    for key, inner in value.items():
        place = f"{path}.{key}".removeprefix(".")
        fields += unknown_fields(inner, types[kind][key], types, place) if key in types[kind] else [place]
    return fields
