"""The Kubernetes files: every document follows its schema, every path leads somewhere, and all fit the service."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import __main__ as program
from service.app import create_app
from service.server import LAST_WORDS_S
from service.settings import PREFIX, Settings
from tests.kubernetes.manifests import FOLDER, KUSTOMIZATION, documents, environment, files, pods, the
from tests.monitoring.prometheus import RULES

SCHEMAS = Path(__file__).parent / "schemas"
TOOLS = Path(sys.executable).parent
CUSTOM = {path.stem for path in SCHEMAS.glob("*.json")}
OLDEST, NEWEST = "1.30", "1.37"
"""Of Kubernetes."""


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kind_of(path: Path) -> str:
    """One kind in a file, so that a file follows one schema."""
    (kind,) = {document["kind"] for document in documents(path)}
    return kind


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_built_in_kinds_follow_the_schemas_of_kubernetes(version: str) -> None:
    built_in = [path for path in files() if kind_of(path) not in CUSTOM]
    said = run(TOOLS / "kubernetes-validate", "--strict", "--no-warn", "-k", version, *built_in)
    assert said.count(" passed for resource ") == sum(len(list(documents(path))) for path in built_in) > 7


@pytest.mark.parametrize("kind", sorted(CUSTOM))
def test_custom_kinds_follow_the_schemas_of_the_fields_that_are_used(kind: str) -> None:
    custom = [path for path in files() if kind_of(path) == kind]
    assert custom
    run(TOOLS / "check-jsonschema", "--schemafile", SCHEMAS / f"{kind}.json", *custom)


def test_every_path_of_a_kustomization_leads_somewhere_and_every_file_is_named_by_one() -> None:
    named: set[Path] = set()
    for path in FOLDER.rglob(KUSTOMIZATION):
        for resource in yaml.safe_load(path.read_text())["resources"]:
            target = (path.parent / resource).resolve()
            assert (target / KUSTOMIZATION if resource.startswith("../") else target).is_file(), f"{path}: {resource}"
            named.add(target)
    assert {path for path in files() if path.name != KUSTOMIZATION} == {path for path in named if path.is_file()}


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in FOLDER.rglob(KUSTOMIZATION)))
def test_kustomize_gives_every_image_its_version(folder: str) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    rendered = run("kubectl", "kustomize", FOLDER / folder)
    images = re.findall(r"image: (\S+)", rendered)
    assert all(re.fullmatch(r"image-caption-\w+:\d+\.\d+\.\d+", image) for image in images)
    assert len(images) == (folder in ("base", "whole", "trainer", "kserve"))


def test_versions_of_images_are_the_version_of_the_project() -> None:
    project = (FOLDER.parents[1] / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)
    tags = re.findall(r"newTag: (\S+)", "\n".join(path.read_text() for path in FOLDER.rglob(KUSTOMIZATION)))
    assert version
    assert set(tags) == {version[1]}


def settings_of(container: dict[str, Any]) -> Settings:
    """What the service makes of the variables; a misspelt one is an error."""
    values = environment(container)
    assert all(name.startswith(PREFIX) for name in values)
    return Settings.model_validate({name.removeprefix(PREFIX).lower(): value for name, value in values.items()})


@pytest.mark.parametrize("pod", ["service", "kserve"])
def test_each_probe_asks_the_route_that_is_meant_for_it_on_the_port_where_it_is(pod: str) -> None:
    container = pods()[pod]["containers"][0]
    settings = settings_of(container)
    app = create_app(settings)
    paths = (app.state.admin or app).openapi()["paths"]
    ports = {port.get("name"): port["containerPort"] for port in container["ports"]}
    assert settings.port in ports.values()
    for probe, path in {"startup": "/startupz", "readiness": "/readyz", "liveness": "/livez"}.items():
        asked = container[f"{probe}Probe"]["httpGet"]
        assert asked["path"] == path
        assert path in paths
        assert ports.get(asked["port"], asked["port"]) == (settings.admin_port or settings.port)


def test_the_grace_period_is_longer_than_the_longest_drain() -> None:
    pod = pods()["service"]
    container = pod["containers"][0]
    settings = settings_of(container)
    _, before_s = container["lifecycle"]["preStop"]["exec"]["command"]
    drain_s = settings.drain_delay_s + settings.drain_timeout_s + 2 * program.LAST_REQUESTS_S + LAST_WORDS_S
    assert pod["terminationGracePeriodSeconds"] > float(before_s) + drain_s
    assert settings.drain_timeout_s >= settings.timeout_s


@pytest.mark.parametrize("pod", ["service", "trainer", "kserve"])
def test_a_pod_has_no_rights_and_a_limit(pod: str) -> None:
    specification = pods()[pod]
    container = specification["containers"][0]
    assert specification["securityContext"]["runAsNonRoot"] is True
    assert specification["securityContext"]["runAsUser"] == 10001
    assert specification["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert re.fullmatch(r"\d+", container["resources"]["limits"]["cpu"]), "threads go by whole CPUs"


@pytest.mark.parametrize("pod", ["service", "trainer", "kserve"])
def test_every_volume_that_is_mounted_is_there_and_only_the_trainer_writes_models(pod: str) -> None:
    specification = pods()[pod]
    mounts = {mount["name"]: mount for mount in specification["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in specification["volumes"]}
    assert set(mounts) == set(volumes)
    claims = {claim["claimName"] for volume in volumes.values() if (claim := volume.get("persistentVolumeClaim"))}
    made = {doc["metadata"]["name"] for path in files() for doc in documents(path) if "Claim" in doc["kind"]}
    assert claims <= made
    assert (
        volumes["models"]["persistentVolumeClaim"]["claimName"]
        == the("PersistentVolumeClaim", "models")["metadata"]["name"]
    )
    assert mounts["models"].get("readOnly", False) == (pod != "trainer")


def test_everything_about_the_service_selects_its_pods() -> None:
    labels = the("Deployment", "base")["spec"]["template"]["metadata"]["labels"]
    assert the("Deployment", "base")["spec"]["selector"]["matchLabels"] == labels
    assert the("Service", "base")["spec"]["selector"] == labels
    assert the("PodDisruptionBudget", "base")["spec"]["selector"]["matchLabels"] == labels
    assert the("NetworkPolicy", "base")["spec"]["podSelector"]["matchLabels"] == labels
    assert (
        the("ServiceMonitor", "monitoring")["spec"]["selector"]["matchLabels"]
        == the("Service", "base")["metadata"]["labels"]
    )
    assert (
        the("ScaledObject", "autoscaling")["spec"]["scaleTargetRef"]["name"]
        == the("Deployment", "base")["metadata"]["name"]
    )


def test_every_port_that_is_named_is_one_of_the_container() -> None:
    ports = {port["name"] for port in pods()["service"]["containers"][0]["ports"]}
    service = the("Service", "base")["spec"]["ports"]
    assert {port["targetPort"] for port in service} <= ports
    assert {endpoint["port"] for endpoint in the("ServiceMonitor", "monitoring")["spec"]["endpoints"]} <= {
        port["name"] for port in service
    }
    trainer = {port["name"] for port in pods()["trainer"]["containers"][0]["ports"]}
    assert {end["port"] for end in the("PodMonitor", "monitoring")["spec"]["podMetricsEndpoints"]} == trainer
    allowed = {port["port"] for rule in the("NetworkPolicy", "base")["spec"]["ingress"] for port in rule["ports"]}
    assert allowed == ports


def test_the_operator_gets_the_same_rules_under_the_same_job() -> None:
    rules = the("PrometheusRule", "monitoring")["spec"]
    assert rules == yaml.safe_load(RULES.read_text()), "make service/kubernetes/monitoring/prometheus-rule.yaml"
    trainer = the("PodMonitor", "monitoring")["spec"]
    for job in (the("Service", "base")["metadata"]["name"], trainer["selector"]["matchLabels"][trainer["jobLabel"]]):
        assert f'job="{job}"' in RULES.read_text()


def test_the_job_trains_what_compose_trains() -> None:
    compose = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text())["services"]["trainer"]
    container = pods()["trainer"]["containers"][0]
    assert container["command"] == compose["entrypoint"]
    assert container["args"] == [command.replace("$$", "$") for command in compose["command"]]
    assert set(environment(container)) == set(compose["environment"])
