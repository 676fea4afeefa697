"""The Helm chart, rendered with Helm's library and checked with the schemas of Kubernetes and its extensions."""

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
from locations import DEMO_CHECKPOINT, ROOT
from tritonclient.grpc import service_pb2

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
    "open": {"networkPolicy": {"enabled": False}, "http": {"enabled": True}, "gpu": {"count": 1}},
    "settings of a cluster": {
        "serviceAccount": {
            "create": True,
            "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/models"},
            "automountToken": True,
        },
        "podAnnotations": {"prometheus.io/scrape": "false", "team": "speech"},
        "podLabels": {"azure.workload.identity/use": "true"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraEnvFrom": [{"configMapRef": {"name": "settings"}}],
        "extraVolumes": [{"name": "engines", "persistentVolumeClaim": {"claimName": "engines"}}],
        "extraVolumeMounts": [{"name": "engines", "mountPath": "/engines"}],
        "priorityClassName": "high",
        "admin": {"secret": "admin"},
        "http": {"enabled": True},
        "repository": {"credentialsSecret": "s3"},
        "monitoring": {"prometheusRule": True, "dashboard": True, "labels": {"release": "prometheus"}},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"},
            "host": "speech.example",
            "tlsSecret": "speech",
        },
        "grpcRoute": {
            "enabled": True,
            "parentRefs": [{"name": "gateway", "namespace": "gateways"}],
            "hostnames": ["speech.example"],
        },
    },
}
CLUSTER = VARIANTS["settings of a cluster"]
OLDEST, NEWEST = "1.25", "1.37"
CUSTOM = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1")


def rendered(values: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The manifests that Helm installs, by kind and name."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(dict(values))
        files = chart.render(dict(values), name="speech", namespace="asr")
    manifests = [
        manifest for name, text in files.items() if name.endswith(".yaml") for manifest in yaml.safe_load_all(text)
    ]
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests if manifest}


def pod(values: Mapping[str, Any]) -> dict[str, Any]:
    template: dict[str, Any] = rendered(values)["Deployment", "speech-nemo-triton"]["spec"]["template"]
    return template


def container(values: Mapping[str, Any]) -> dict[str, Any]:
    first_container: dict[str, Any] = pod(values)["spec"]["containers"][0]
    return first_container


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_helm_lint_finds_no_error(values: dict[str, Any]) -> None:
    report = helm.lint(CHART, values, strict=True, kube_version=f"v{NEWEST}.0")
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_manifests_match_the_schemas_of_kubernetes(values: dict[str, Any], version: str) -> None:
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
def test_the_job_writes_the_claim_that_servers_read(version: str) -> None:
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
        ({"podLabels": {"app.kubernetes.io/name": "other"}}, "app.kubernetes.io/name"),
        ({"ingress": {"enabled": True}}, "ingress"),
        ({"grpcRoute": {"enabled": True}}, "grpcRoute"),
        ({"serviceAccount": {"annotations": {"role": 1}}}, "role"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=named):
        rendered(values)


@pytest.mark.parametrize("name", ["default", "mutual tls"])
def test_tritonserver_accepts_the_flags(repository: Path, tmp_path: Path, name: str) -> None:
    flags = container(VARIANTS[name])["args"]
    if "tls" in VARIANTS[name]:
        subprocess.run([MAKE_CERTIFICATES, tmp_path / "certificates", "localhost"], check=True, capture_output=True)
        for name_here, name_in_secret in (("ca.pem", "ca.crt"), ("server.pem", "tls.crt"), ("server.key", "tls.key")):
            (tmp_path / name_in_secret).symlink_to(tmp_path / "certificates" / name_here)
    one_model = ["--model-control-mode=explicit", f"--load-model={DEMO_CHECKPOINT.stem}"]
    with running_server(repository, [*for_this_machine(flags, tls=str(tmp_path)), *one_model]) as server:
        log = server.log.read_text()
        assert "HTTPService at 127.0.0.1" in log and "Metrics Service at 0.0.0.0" in log, (
            "only Prometheus and clients by gRPC must reach the server"
        )


def test_values_in_the_documentation_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    paths = re.findall(r"--set '?([\w.]+)", page) + re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)(?:=true)?`", page)
    # tls.crt and tls.key are files in a Secret.
    documented = [path for path in paths if path.split(".")[0] in values and not path.endswith((".crt", ".key"))]
    assert {"image.repository", "image.tag", "image.pullSecrets", "tls.enabled"} <= set(documented)
    for path in documented:
        value = values
        for key in path.split("."):
            assert key in value, path
            value = value[key]


def test_the_headless_service_resolves_to_every_ready_server() -> None:
    manifests = rendered({})
    headless = manifests["Service", "speech-nemo-triton-headless"]["spec"]
    template = pod({})
    assert headless["clusterIP"] == "None" and not headless.get("publishNotReadyAddresses")
    assert headless["selector"].items() <= template["metadata"]["labels"].items()
    (port,) = headless["ports"]
    port_numbers = {exposed["name"]: exposed["containerPort"] for exposed in template["spec"]["containers"][0]["ports"]}
    # A headless service does not translate ports.
    assert port["port"] == port_numbers[port["targetPort"]] == 8001
    # Without a limit, clients that balance with gRPC's round_robin never learn of new servers.
    assert "--grpc-max-connection-age=60000" in template["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_http_is_closed_unless_it_is_enabled(values: dict[str, Any]) -> None:
    manifests, server = rendered(values), container(values)
    enabled = values.get("http", {}).get("enabled", False)
    assert ("--http-address=127.0.0.1" in server["args"]) == (not enabled)
    assert ("--open=http-inference" in server["args"]) == enabled
    assert not any("admin" in flag for flag in server["args"])
    names = ["grpc", "http"] if enabled else ["grpc"]
    for (kind, _), manifest in manifests.items():
        if kind == "Service":
            assert [port["name"] for port in manifest["spec"]["ports"]] == names
    assert {port["name"] for port in server["ports"]} == {*names, "metrics"}
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    assert [server[probe]["exec"]["command"][-1] for probe in probes] == ["ready", "ready", "live"]


def test_http_clients_pass_the_network_policy() -> None:
    clients, _ = rendered({"http": {"enabled": True}})["NetworkPolicy", "speech-nemo-triton"]["spec"]["ingress"]
    assert [port["port"] for port in clients["ports"]] == ["grpc", "http"]


def test_pods_have_no_token_of_kubernetes() -> None:
    spec = pod({})["spec"]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("default", False)
    existing = pod({"serviceAccount": {"name": "models"}})["spec"]
    assert (existing["serviceAccountName"], existing["automountServiceAccountToken"]) == ("models", False)
    assert not any(kind == "ServiceAccount" for kind, _ in rendered({"serviceAccount": {"name": "models"}}))


def test_settings_of_a_cluster_reach_the_pods() -> None:
    manifests, template, server = rendered(CLUSTER), pod(CLUSTER), container(CLUSTER)
    account = manifests["ServiceAccount", template["spec"]["serviceAccountName"]]
    assert account["metadata"]["annotations"] == CLUSTER["serviceAccount"]["annotations"]
    assert template["spec"]["automountServiceAccountToken"] and template["spec"]["priorityClassName"] == "high"
    assert template["metadata"]["labels"].items() >= CLUSTER["podLabels"].items()
    assert template["metadata"]["annotations"].items() >= CLUSTER["podAnnotations"].items()
    assert template["metadata"]["annotations"]["prometheus.io/port"] == "8002"
    secret = {"name": "NEMO_TRITON_ADMIN_KEY", "valueFrom": {"secretKeyRef": {"name": "admin", "key": "key"}}}
    share = {"name": "NEMO_TRITON_CPUS", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}}
    assert server["env"] == [share, secret, *CLUSTER["extraEnv"]]
    assert server["envFrom"] == [{"secretRef": {"name": "s3"}}, *CLUSTER["extraEnvFrom"]]
    assert server["volumeMounts"][-1] == CLUSTER["extraVolumeMounts"][0]
    assert template["spec"]["volumes"][-1] == CLUSTER["extraVolumes"][0]


def test_alerts_and_dashboard_are_those_of_compose() -> None:
    manifests = rendered(CLUSTER)
    rule = manifests["PrometheusRule", "speech-nemo-triton"]
    assert rule["spec"] == yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    dashboard = manifests["ConfigMap", "speech-nemo-triton-dashboard"]
    assert dashboard["data"]["triton.json"] == (DOCKER / "grafana" / "dashboards" / "triton.json").read_text()
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_routes_lead_to_the_grpc_port() -> None:
    manifests = rendered(CLUSTER)
    service = manifests["Service", "speech-nemo-triton"]
    (path,) = manifests["Ingress", "speech-nemo-triton"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": "grpc"}}
    rules = manifests["GRPCRoute", "speech-nemo-triton"]["spec"]["rules"]
    assert all(rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": 8001}] for rule in rules)
    # The standard channel's CRD of Gateway API 1.2.
    assert all(len(rule["matches"]) <= 8 for rule in rules)
    methods = {match["method"].get("method", "") for rule in rules for match in rule["matches"]}
    known = {method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    assert "ModelInfer" in methods <= {*known, ""}
    assert not [method for method in methods if re.search("Repository|SharedMemory|Trace|Log", method)]


def test_gpu_count_sets_the_resource_limit() -> None:
    assert "nvidia.com/gpu" not in json.dumps(container({}))
    gpu = container(VARIANTS["gpu"])
    assert gpu["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 1}


def test_the_repository_is_a_volume_or_an_object_store() -> None:
    assert "--model-repository=/models" in container({})["args"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container({})["volumeMounts"]
    store = container(VARIANTS["object store"])
    assert "--model-repository=s3://bucket/models" in store["args"]
    assert store["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert "models" not in [mount["name"] for mount in store["volumeMounts"]]


def test_an_empty_list_of_clients_allows_nobody() -> None:
    policy = rendered(VARIANTS["scaled and watched"])["NetworkPolicy", "speech-nemo-triton"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and not policy["ingress"]
    policy = rendered({})["NetworkPolicy", "speech-nemo-triton"]["spec"]
    assert all(rule["from"] for rule in policy["ingress"])
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["grpc", "metrics"]


def test_only_keda_sets_the_number_of_replicas_with_autoscaling() -> None:
    manifests = rendered(VARIANTS["scaled and watched"])
    target = manifests["ScaledObject", "speech-nemo-triton"]["spec"]["scaleTargetRef"]["name"]
    # A number of replicas in the manifest resets the autoscaler's at every upgrade.
    assert "replicas" not in manifests["Deployment", target]["spec"]
    assert rendered({})["Deployment", target]["spec"]["replicas"] == 2


VALIDATE_CUSTOM = """
import { readFileSync } from "node:fs";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { GRPCRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/GRPCRoute";
const manifest = JSON.parse(readFileSync(0, "utf8"));
new { ScaledObject, PodMonitor, PrometheusRule, GRPCRoute }[manifest.kind](manifest).validate();
"""
REQUIRED_FIELDS = {
    "ScaledObject": "maxReplicaCount",
    "PodMonitor": "podMetricsEndpoints",
    "PrometheusRule": "groups",
    "GRPCRoute": "rules",
}


@pytest.mark.parametrize("kind", REQUIRED_FIELDS)
def test_custom_resources_match_the_schemas_of_their_operators(kind: str) -> None:
    schemas = TOOLS / "node_modules" / "@kubernetes-models"
    if not all((schemas / package).exists() for package in ("keda", "prometheus-operator", "gateway-api")):
        pytest.skip("schemas of KEDA, the Prometheus operator or Gateway API are missing; run make docker-tools (npm)")
    variant = "scaled and watched" if kind in ("ScaledObject", "PodMonitor") else "settings of a cluster"
    manifest = rendered(VARIANTS[variant])[kind, "speech-nemo-triton"]

    def validate(manifest: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        script = ["node", "--input-type=module", "--eval", VALIDATE_CUSTOM]
        return subprocess.run(script, input=json.dumps(manifest), capture_output=True, text=True, cwd=TOOLS)

    done = validate(manifest)
    assert done.returncode == 0, done.stderr
    manifest["spec"][REQUIRED_FIELDS[kind]] = "many"
    assert "must be" in validate(manifest).stderr


def test_the_kserve_manifest_has_only_known_fields() -> None:
    types = kserve_types(TOOLS / "kserve" / "kserve" / "models")
    runtime, service = yaml.safe_load_all((DOCKER / "kserve" / "inferenceservice.yaml").read_text())
    assert unknown_fields(runtime, "V1alpha1ServingRuntime", types) == []
    assert unknown_fields(service, "V1beta1InferenceService", types) == []
    assert unknown_fields({"spec": {"predictors": {}}}, "V1beta1InferenceService", types) == ["spec.predictors"]
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]
    as_kserve_makes_it = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "as-kserve-makes-it"},
        "spec": {"containers": runtime["spec"]["containers"]},
    }
    kubernetes_validate.validate(as_kserve_makes_it, NEWEST, strict=True)


Types = dict[str, dict[str, str]]


def kserve_types(models: Path) -> Types:
    """Types of all fields of the SDK's classes. Read from its source, because importing it needs all of KServe."""
    if not models.exists():
        pytest.skip("KServe's SDK is missing; run make docker-tools")
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
