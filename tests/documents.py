"""What is written from the code: `make documents` rewrites it, and a test fails where it is not current.

service/openapi.json    the service's OpenAPI document, with keys
README.md               the table of settings, between its marks
service/README.md       the table of metrics, between its marks
"""

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from pydantic_core import PydanticUndefined

from service.app import create_app
from service.batcher import WorkerState
from service.collectors import GPU_MEMORY
from service.errors import REJECT_REASONS
from service.metrics import Metrics
from service.settings import Settings

PROJECT = Path(__file__).parent.parent
HOW = "`make documents` writes it anew"


def documents() -> dict[Path, str]:
    """Each file with the text that it must have."""
    readme, guide = PROJECT / "README.md", PROJECT / "service" / "README.md"
    return {
        PROJECT / "service" / "openapi.json": openapi(),
        readme: with_section(readme.read_text(), "settings", settings_table()),
        guide: with_section(guide.read_text(), "metrics", metrics_table()),
    }


def openapi() -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write("a-key\n")
        keys.flush()
        app = create_app(Settings(api_keys_file=Path(keys.name)))
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


def settings_table() -> str:
    rows = ["| `CAPTION_...` | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        assert field.description, f"service/settings.py says nothing of {name}"
        shown = _shown(field.default)
        rows.append(f"| `{name.upper()}` | {shown} | {' '.join(field.description.split())} |".replace("|  |", "| |"))
    return "\n".join(rows)


def _shown(default: object) -> str:
    if default is None or default == () or default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def metrics_table() -> str:
    registry = CollectorRegistry()
    metrics = Metrics(registry, reject_reasons=REJECT_REASONS)
    metrics.requests.expect("/caption", "POST", (200,))  # so that each metric has its labels
    metrics.watch_workers(lambda: [WorkerState(number=0, alive=True, busy_s=0.0)])
    rows = ["| metric | kind | |", "|---|---|---|"]
    rows += sorted(_metric_rows(registry.collect()))
    gpu = (f"caption_gpu_memory_{kind}_bytes{{device}}" for kind in GPU_MEMORY)
    rows += [f"| `{name}` | gauge | {words} |" for name, words in zip(gpu, GPU_MEMORY.values(), strict=True)]
    return "\n".join(rows)


def _metric_rows(families: Iterable[Metric]) -> Iterator[str]:
    for family in families:
        if not family.name.startswith("caption_"):
            continue
        ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        shown = f"{{{','.join(labels)}}}" if labels and family.type != "info" else ""
        yield f"| `{family.name}{ending}{shown}` | {family.type} | {family.documentation} |"


def with_section(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: from the code, {HOW} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"the marks of {name} must be there once: {begin} ... {end}"
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def main() -> None:
    for path, text in documents().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
