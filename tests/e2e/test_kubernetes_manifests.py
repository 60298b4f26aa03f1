"""The manifests fit Kubernetes' own schemas, and fit together: names, ports, times, and the configuration in them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate as kubernetes  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
import pytest
import yaml

from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.load import parse_config
from gearshift.core.config.model import ServerConfig
from gearshift.server.app import SERVICES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
VERSIONS = ("1.30", "1.33", "1.37")
"""The oldest whose preStop may sleep, one between, and a current one."""
ENV = {
    "ANTHROPIC_API_KEY": "k",
    "GEARSHIFT_REDIS_URL": "redis://redis:6379/0",
    "GEARSHIFT_LEDGER_URL": "postgresql://gearshift@postgres/gearshift",
}
CLEANUP_S = 5.0
"""What cancelled calls get after the grace (server/gearshift/server/app.py)."""


@cache
def objects() -> tuple[dict[str, Any], ...]:
    found: list[dict[str, Any]] = []
    for path in sorted(FOLDER.glob("*.yaml")):
        found += [each for each in yaml.safe_load_all(path.read_text()) if each is not None]
    return tuple(found)


def of(kind: str, name: str = "gearshift") -> dict[str, Any]:
    return next(each for each in objects() if (each["kind"], each["metadata"]["name"]) == (kind, name))


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = of("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    one: dict[str, Any] = pod()["containers"][0]
    return one


def server() -> ServerConfig:
    return parse_config(of("ConfigMap")["data"]["gearshift.yaml"], ENV).config.server


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "manifest", [pytest.param(each, id=f"{each['kind']}-{each['metadata']['name']}") for each in objects()]
)
def test_manifests_fit_their_schemas(manifest: dict[str, Any], version: str) -> None:
    # The schemas are those that Kubernetes publishes for each version; strict ones refuse unknown fields.
    kubernetes.validate(manifest, version, strict=True)


def test_a_misspelt_field_is_noticed() -> None:
    wrong = json.loads(json.dumps(of("Deployment")))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(wrong, VERSIONS[-1], strict=True)


def test_configuration_in_the_map_is_right() -> None:
    blueprint = build(parse_config(of("ConfigMap")["data"]["gearshift.yaml"], ENV), Catalogue.load())
    config = blueprint.config
    assert config.shared.redis is not None and config.ledger.url
    assert config.access.open_health, "probes have no key"
    assert config.access.open_metrics, "Prometheus has no key; the network policy says who may ask"
    assert config.shared.processes == of("HorizontalPodAutoscaler")["spec"]["minReplicas"]
    mounts = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
    assert config.access.keys_file.startswith(f"{mounts['keys']}/")
    assert container()["args"][-1] == f"{mounts['config']}/gearshift.yaml"


def test_ports_are_the_service_s() -> None:
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    assert ports == {"grpc": server().port, "http": server().http_port}
    for name in ("gearshift", "gearshift-pods"):
        for port in of("Service", name)["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for rule in of("NetworkPolicy")["spec"]["ingress"]:
        assert all(each["port"] in ports for each in rule["ports"])
    annotations = of("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["http"])


def test_services_are_headless_and_whole() -> None:
    assert of("Service", "gearshift-pods")["spec"]["clusterIP"] == "None"
    labels = of("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [of("Service", name)["spec"]["selector"] for name in ("gearshift", "gearshift-pods")]
    selectors += [of(kind)["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert all(each == labels for each in selectors)
    envoy = of("Deployment", "gearshift-envoy")["spec"]
    assert envoy["selector"]["matchLabels"] == envoy["template"]["metadata"]["labels"] != labels
    assert of("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "gearshift"
    assert "replicas" not in of("Deployment")["spec"], "the autoscaler's"


def test_a_pod_has_time_to_drain() -> None:
    config, sleep = server(), container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = sleep + config.notice_s + config.grace_s + CLEANUP_S
    assert needed < pod()["terminationGracePeriodSeconds"]
    # A pod that drains says NOT_SERVING all the while, and must not be restarted for it.
    liveness = container()["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > needed
    # Readiness hears of it before calls are refused.
    readiness = container()["readinessProbe"]
    assert readiness["periodSeconds"] * (readiness["failureThreshold"] - 1) <= config.notice_s


def test_envoy_notices_a_drain_within_the_notice() -> None:
    envoy = yaml.safe_load((ROOT / "deploy/envoy/envoy.yaml").read_text())
    cluster = envoy["static_resources"]["clusters"][0]
    check = cluster["health_checks"][0]
    seconds = float(check["interval"].rstrip("s"))
    assert seconds * (check["unhealthy_threshold"] + 1) < server().notice_s
    assert check["grpc_health_check"]["service_name"] in SERVICES
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert endpoint["address"] == "gearshift-pods"
    assert endpoint["port_value"] == server().port
    listener = envoy["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"]
    assert listener == of("Service", "gearshift-envoy")["spec"]["ports"][0]["port"]


def test_probes_ask_for_services_that_there_are() -> None:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container()[name]["grpc"]
        assert asked["port"] == server().port
        assert asked.get("service", "") in ("", *SERVICES)


@pytest.mark.parametrize("name", ["gearshift", "gearshift-envoy"])
def test_pods_are_not_root_and_write_nowhere(name: str) -> None:
    spec = of("Deployment", name)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] >= 10_000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for each in spec["containers"]:
        context = each["securityContext"]
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert each["resources"]["limits"]["memory"] and each["resources"]["requests"]["cpu"]


def test_no_secret_stands_in_a_manifest() -> None:
    assert not [each for each in objects() if each["kind"] == "Secret"]
    assert "env" not in container()
    assert container()["envFrom"] == [{"secretRef": {"name": "gearshift"}}]
