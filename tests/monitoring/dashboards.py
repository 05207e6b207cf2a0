"""What the Grafana dashboards ask Prometheus."""

import json
from pathlib import Path
from typing import Any

from tests.monitoring.prometheus import MONITORING, WINDOW

FOLDER = MONITORING / "grafana" / "dashboards"


def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def queries(name: str, window: str = WINDOW) -> dict[str, str]:
    """By panel and letter, with Grafana's variables filled in."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$__rate_interval", window)
        .replace("$instance", ".*")
        .replace("[30m]", f"[{window}]")
        for panel in load(name)["panels"]
        for target in panel["targets"]
    }


def provisioned(kind: str) -> Path:
    return next((MONITORING / "grafana" / "provisioning" / kind).iterdir())
