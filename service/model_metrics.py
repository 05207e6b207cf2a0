"""The Prometheus series of what runs: the model, its reloads, and this build."""

import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Info

RELOAD_OUTCOMES = ("success", "failure")


class ModelMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._model = Info("caption_model", "The model that answers.", registry=registry)
        self._reloads = Counter(
            "caption_model_reloads", "Attempts to take a newly published model.", ("outcome",), registry=registry
        )
        for outcome in RELOAD_OUTCOMES:
            self._reloads.labels(outcome)
        self._last_was_good = Gauge(
            "caption_model_last_reload_successful",
            "0 while the newest model could not be taken and an older one answers.",
            registry=registry,
        )
        self._last_was_good.set(1)
        self._loaded_at = Gauge(
            "caption_model_last_reload_success_timestamp_seconds",
            "When the model that answers was taken.",
            registry=registry,
        )
        Info("caption_build", "What this process runs.", registry=registry).info(build_info())

    def serve(self, labels: dict[str, str]) -> None:
        self._model.info(labels)
        self._loaded_at.set_to_current_time()

    def reload(self, outcome: str) -> None:
        self._reloads.labels(outcome).inc()
        self._last_was_good.set(outcome == "success")


def build_info() -> dict[str, str]:
    info = {"python": platform.python_version()}
    for label, package in (("version", "image-caption-service"), ("openvino", "openvino"), ("pillow", "pillow")):
        try:
            info[label] = version(package)
        except PackageNotFoundError:
            info[label] = "unknown"
    return info
