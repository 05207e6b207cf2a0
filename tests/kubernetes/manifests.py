"""What lies in service/kubernetes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "service" / "kubernetes"
KUSTOMIZATION = "kustomization.yaml"


def files() -> list[Path]:
    return sorted(FOLDER.rglob("*.yaml"))


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text())


def the(kind: str, folder: str) -> dict[str, Any]:
    """The one object of a kind in a folder."""
    found = [doc for path in sorted((FOLDER / folder).glob("*.yaml")) for doc in documents(path)]
    (only,) = (doc for doc in found if doc["kind"] == kind)
    return only


def pods() -> dict[str, dict[str, Any]]:
    """The specification of every pod that is described here."""
    return {
        "service": the("Deployment", "base")["spec"]["template"]["spec"],
        "trainer": the("Job", "trainer")["spec"]["template"]["spec"],
        "kserve": the("InferenceService", "kserve")["spec"]["predictor"],
    }


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}
