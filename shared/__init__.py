import sys

# Importing openvino would report to its makers, from a thread that stays. Without that package it does not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
