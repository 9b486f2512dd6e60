"""The Helm chart, rendered by Helm itself, gives manifests that Kubernetes knows, and that the service can live by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.app import ROLES
from service.settings import load
from tests.peers import missing

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "firstlook"
DOCKERFILE = (CHART.parents[2] / "Dockerfile").read_text()
KUBERNETES = ("1.27", "1.33")
SECRET = {"existingSecret": "firstlook"}
SITE: dict[str, Any] = SECRET | {
    "networkPolicy": {"pacsCidrs": ["10.1.2.3/32"], "databaseCidrs": ["10.1.9.0/24"], "webNamespaces": ["ingress"],
                      "otherCidrs": ["10.1.7.7/32"]},
    "roles": {"listen": {"replicas": 2}, "work": {"gpus": 1, "autoscaling": {"enabled": True}}},
    "storage": {"existingClaim": "images"},
}

SPREAD: dict[str, Any] = SECRET | {
    "image": {"repository": "firstlook", "tag": "cluster"},
    "bucket": {"url": "s3://images/firstlook", "endpoint": "https://s3.example.org", "existingSecret": "keys"},
    "ray": {"address": "ray://ray-head:10001", "sessions": 4}, "networkPolicy": {"clusterCidrs": ["10.1.8.0/24"]},
}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        import helm_python
    except ImportError:
        missing("helm-python-sdk (make deploy-check)")
    with helm_python.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name="x", namespace="n")
    return [one for text in texts.values() for one in yaml.safe_load_all(text) if one]


def of_kind(kind: str, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in rendered(values) if m["kind"] == kind}


@pytest.mark.parametrize("values", [SECRET, SITE, SPREAD], ids=["least", "site", "spread"])
@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_are_those_of_kubernetes(values: dict[str, Any], version: str) -> None:
    made = rendered(values)
    try:
        import kubernetes_validate
    except ImportError:
        missing("kubernetes-validate (make deploy-check)")
    assert {m["kind"] for m in made} >= {
        "Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service", "ConfigMap", "ServiceAccount"}
    for manifest in made:
        if manifest["kind"] != "ScaledObject":  # KEDA's own; not known to Kubernetes
            kubernetes_validate.validate(manifest, version, strict=True)


def test_each_role_is_a_command_and_runs_without_rights() -> None:
    deployments = of_kind("Deployment", SITE)
    assert set(deployments) == {f"x-{role}" for role in ROLES}
    budgets, user = of_kind("PodDisruptionBudget", SITE), re.search(r"^USER (\d+):", DOCKERFILE, re.M)
    for name, one in deployments.items():
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["args"] == [name.removeprefix("x-"), "--settings", "/etc/firstlook/firstlook.toml"]
        assert pod["securityContext"]["runAsNonRoot"] and user and pod["securityContext"]["runAsUser"] == int(user[1])
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]} and pod["automountServiceAccountToken"] is False
        assert {container[p]["httpGet"]["path"] for p in ("livenessProbe", "readinessProbe", "startupProbe")} == {
            "/health/live", "/health/ready"}
        assert budgets[name]["spec"]["selector"] == one["spec"]["selector"]
        assert one["spec"]["selector"]["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items()


def test_the_environment_of_the_chart_is_known_to_the_settings_and_opens_a_page_for_probes() -> None:
    for one in of_kind("Deployment", SITE).values():
        (container,) = one["spec"]["template"]["spec"]["containers"]
        environ = {e["name"]: e.get("value", "postgresql+psycopg://u:p@h/n") for e in container["env"]}
        settings = load(None, environ)
        port = settings.web.port if container["name"] == "web" else settings.monitor.port
        assert {"name": "http", "containerPort": port} in container["ports"]
        assert settings.web.host == settings.monitor.host == settings.receive.host == "0.0.0.0"
        pod = one["spec"]["template"]["spec"]
        assert settings.receive.notice_s >= 2 * container["readinessProbe"]["periodSeconds"] - 5, "it is noticed in time"
        assert pod["terminationGracePeriodSeconds"] >= settings.receive.notice_s + settings.receive.drain_s + 30
        secrets = {e["name"] for e in container["env"] if "valueFrom" in e}
        assert secrets == {"FIRSTLOOK_WEB__ACCESS_TOKEN", "FIRSTLOOK_STORE__DATABASE_URL"}


def test_with_a_bucket_no_volume_is_shared_and_the_models_run_on_the_cluster() -> None:
    deployments = of_kind("Deployment", SPREAD)
    for name, one in deployments.items():
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert {"name": "data", "emptyDir": {"sizeLimit": "50Gi"}} in pod["volumes"]
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
        settings = load(None, {e["name"]: e.get("value", "postgresql+psycopg://u:p@h/n") for e in container["env"]})
        assert (settings.store.bucket, settings.store.bucket_endpoint) == ("s3://images/firstlook", "https://s3.example.org")
        on_ray = ("ray", "ray://ray-head:10001", 4)
        ours = settings.infer.engine, settings.infer.ray_address, settings.infer.ray_sessions
        assert ours == on_ray if name == "x-work" else ours[0] == "local"
    assert not of_kind("PersistentVolumeClaim", SPREAD) and of_kind("PersistentVolumeClaim", SECRET)
    policy = of_kind("NetworkPolicy", SPREAD)["x-firstlook"]["spec"]
    assert {"to": [{"ipBlock": {"cidr": "10.1.8.0/24"}}]} in policy["egress"]


def test_the_settings_of_the_chart_load(tmp_path: Path) -> None:
    file = tmp_path / "firstlook.toml"
    file.write_text(of_kind("ConfigMap", SECRET)["x-firstlook"]["data"]["firstlook.toml"])
    assert load(file, {}).receive.peers[0].ae_title == "PACS"


def test_a_gpu_is_asked_for_only_where_it_is_wanted() -> None:
    def work(values: dict[str, Any]) -> dict[str, Any]:
        pod: dict[str, Any] = of_kind("Deployment", values)["x-work"]["spec"]["template"]["spec"]
        return pod

    with_gpu, without = work(SITE), work(SECRET)
    assert with_gpu["nodeSelector"] == {"nvidia.com/gpu.present": "true"} and "nodeSelector" not in without
    assert with_gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in without["containers"][0]["resources"]["limits"]
    assert {"name": "FIRSTLOOK_INFER__DEVICE", "value": "cuda"} in with_gpu["containers"][0]["env"]
    assert "replicas" not in of_kind("Deployment", SITE)["x-work"]["spec"], "KEDA counts"


def test_only_the_pacs_may_send_and_only_the_pacs_is_sent_to() -> None:
    policy = of_kind("NetworkPolicy", SITE)["x-firstlook"]["spec"]
    dicom = [rule for rule in policy["ingress"] if {"port": 11112} in rule["ports"]]
    assert [rule["from"] for rule in dicom] == [[{"ipBlock": {"cidr": "10.1.2.3/32"}}]]
    assert all("to" in rule or {p["port"] for p in rule["ports"]} == {53} for rule in policy["egress"])
    https = [rule for rule in policy["egress"] if {"port": 443} in rule["ports"]]
    assert [rule["to"] for rule in https] == [[{"ipBlock": {"cidr": "10.1.7.7/32"}}]], "an identity provider, a collector"
    assert all("11112" not in str(rule) for rule in of_kind("NetworkPolicy", SECRET)["x-firstlook"]["spec"]["ingress"])


@pytest.mark.parametrize("values", [
    {}, SECRET | {"image": {"repository": "firstlook", "tag": "latest"}}, SECRET | {"roles": {"listen": {"replicas": 0}}},
    SECRET | {"roles": {"scribe": {"replicas": 1}}}, SECRET | {"networkPolicy": {"pacsCidr": ["10.0.0.1/32"]}},
], ids=["no secret", "latest", "no listener", "a role that is not there", "a wrong word"])
def test_values_that_would_not_work_are_refused(values: dict[str, Any]) -> None:
    try:
        import helm_python
    except ImportError:
        missing("helm-python-sdk (make deploy-check)")
    with pytest.raises(helm_python.HelmError):
        rendered(values)


def test_helm_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    import shutil

    try:
        import helm_python
    except ImportError:
        missing("helm-python-sdk (make deploy-check)")
    copy = tmp_path / "firstlook"
    shutil.copytree(CHART, copy)
    values = copy / "values.yaml"
    values.write_text(values.read_text().replace('existingSecret: ""', "existingSecret: firstlook"))
    messages = helm_python.lint(str(copy))["messages"]
    assert [m for m in messages if m["severity"] > 1] == []
