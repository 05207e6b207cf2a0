"""The page of a report: one HTML document that needs nothing but itself, and no script to be read."""

import base64
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

from trainer.config import TrainConfig
from trainer.report.curves import draw_curves, show
from trainer.report.gallery import Gallery
from trainer.report.markup import element, html_bytes
from trainer.report.photos import photo_sections
from trainer.report.run_log import Line, figures, stage_name
from trainer.report.style import STYLE

KEY_SCORES = ("CIDEr-D", "BLEU-4", "ROUGE-L", "METEOR")
SHOWN_ELSEWHERE = {
    "config",
    "vocabulary",
    "architecture",
    "preprocessing",
    "splits",
    "versions",
    "revision",
    "epoch",
    "seconds",
    "started_from",
}


@dataclass(frozen=True)
class Run:
    """What a run left behind, as far as a page shows it."""

    record: Mapping[str, Any]
    lines: Sequence[Line]
    finished: datetime
    parameters: int

    @property
    def best(self) -> Line:
        return self.record.get("epoch", {})

    @property
    def scores(self) -> dict[str, float]:
        """Of the best epoch on the validation split."""
        return {name[4:]: value for name, value in figures(self.best).items() if name.startswith("val/")}


def report_page(run: Run, gallery: Gallery | None) -> bytes:
    """The whole document."""
    sections = {
        "Curves": _curves(run),
        "Scores": _scores(run),
        "Photos": photo_sections(gallery, run.record["preprocessing"]["resize"]) if gallery else [],
        "Run": _facts(run),
        "Config": [_config_table(run.record["config"])],
    }
    sections = {title: content for title, content in sections.items() if content}
    body = [_header(run, list(sections))]
    for title, content in sections.items():
        body.append(element("section", element("h2", title, id=title.lower()), *content))
    written = f"Written {_time(datetime.now(UTC))} on a machine with {os.cpu_count()} processors."
    return html_bytes(element("html", _head(run), element("body", *body, element("footer", written)), lang="en"))


def _head(run: Run) -> Element:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{_name(run)}: training report"),
        element("style", STYLE),
    )


def _header(run: Run, titles: Sequence[str]) -> Element:
    scores = run.scores
    last = run.lines[-1].get("epoch") if run.lines else run.best.get("epoch")
    shown = {name: f"{scores[name]:.1f}" for name in KEY_SCORES if name in scores}
    shown |= {"Best epoch": f"{run.best.get('epoch', '?')} of {last or '?'}", "Duration": duration(_seconds(run))}
    links = [element("a", title, href=f"#{title.lower()}") for title in titles]
    return element(
        "header",
        element("p", "Training report", class_="kicker"),
        element("h1", _name(run)),
        element("p", " ".join(_story(run)), class_="note"),
        element(
            "dl",
            *(element("div", element("dt", name), element("dd", value)) for name, value in shown.items()),
            class_="key",
        ),
        element("nav", *links),
    )


def _story(run: Run) -> Iterator[str]:
    """When, from what and with what the run learned."""
    record = run.record
    val, names = record["config"].get("val"), record["config"].get("train", ())
    learned = [split_text(name, split) for name, split in record.get("splits", {}).items() if name in names]
    yield f"The last epoch ended {_time(run.finished)}."
    if learned:
        yield f"Learned from {' and '.join(learned)}."
    if val in record.get("splits", {}):
        yield f"Validated on {split_text(val, record['splits'][val])}."
    if "torch" in record.get("versions", {}):
        yield f"Trained with torch {record['versions']['torch']} at revision {_revision(record)}."


def split_text(name: str, split: Mapping[str, Any]) -> str:
    return f"{name} ({', '.join(f'{split[key]:,} {key}' for key in ('photos', 'captions') if key in split)})"


def _name(run: Run) -> str:
    return str(run.record["config"].get("name", "unnamed run"))


def _seconds(run: Run) -> float:
    """Of all epochs, where the log has them; else up to the best one."""
    logged = [figures(line).get("seconds", 0.0) for line in run.lines]
    return sum(logged) or figures(run.record).get("seconds", 0.0)


def _curves(run: Run) -> list[Element]:
    """The charts, and every figure of the log in a table that opens."""
    if not run.lines:
        return [element("p", "The run has no log, so there is nothing to draw.")]
    opened = element("details", element("summary", "Every epoch in figures"), _epoch_table(run))
    return [element("div", *draw_curves(run.lines, run.best), class_="charts"), opened]


def _epoch_table(run: Run) -> Element:
    columns = list(dict.fromkeys(name for line in run.lines for name in figures(line)))
    has_stages = any("stage" in line for line in run.lines)
    head = element("tr", *(element("th", name) for name in [*columns, *(["stage"] if has_stages else [])]))
    rows = []
    for line in run.lines:
        values = figures(line)
        cells = [element("td", show(values[name]) if name in values else "") for name in columns]
        cells += [element("td", stage_name(line))] if has_stages else []
        rows.append(element("tr", *cells, **({"class_": "chosen"} if line == run.best else {})))
    return _table(head, *rows, numbers=True)


def _scores(run: Run) -> list[Element]:
    if not run.scores:
        return []
    split = run.record["config"].get("val", "the validation split")
    text = f"COCO's metrics, times 100, of epoch {run.best.get('epoch', '?')} on {split}, which also chose the epoch."
    head = element("tr", *(element("th", name) for name in run.scores))
    return [
        element("p", text),
        _table(head, element("tr", *(element("td", f"{value:.2f}") for value in run.scores.values())), numbers=True),
    ]


def _facts(run: Run) -> list[Element]:
    record = run.record
    splits = element("div", element("h3", "Data"), _split_table(record))
    model = element("div", element("h3", "Model"), _pairs(_model_facts(run)))
    machine = element("div", element("h3", "Environment"), _pairs(_environment(record)))
    return [element("div", splits, model, machine, class_="columns")]


def _split_table(record: Mapping[str, Any]) -> Element:
    head = element("tr", *(element("th", name) for name in ("split", "photos", "captions")))
    rows = []
    for name, split in record.get("splits", {}).items():
        use = " (validation)" if name == record["config"].get("val") else ""
        counts = (f"{split[key]:,}" if key in split else "" for key in ("photos", "captions"))
        rows.append(element("tr", element("th", f"{name}{use}"), *(element("td", count) for count in counts)))
    return _table(head, *rows, numbers=True)


def _model_facts(run: Run) -> Iterator[tuple[str, str]]:
    record, pixels = run.record, run.record["preprocessing"]
    yield "vocabulary", f"{len(record['vocabulary']):,} words"
    yield "parameters", f"{run.parameters / 1e6:.1f} million"
    yield "pixels", f"{pixels['size']} x {pixels['size']}, {pixels['resize']}"
    for name, value in record["architecture"].items():
        if name != "vocabulary_size":
            yield name, plain(value)


def _environment(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Revision and versions, and whatever else a record says of how it came about."""
    yield "revision", _revision(record)
    for name, version in record.get("versions", {}).items():
        yield name, str(version)
    for name, value in record.items():
        if name in SHOWN_ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            yield from ((key, plain(inner)) for key, inner in value.items())
        else:
            yield name, plain(value)


def _revision(record: Mapping[str, Any]) -> str:
    return str(record.get("revision") or "unknown")[:12]


def _config_table(config: Mapping[str, Any]) -> Element:
    """Every setting; those that differ from the default stand out, with the default beside them."""
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    head = element("tr", *(element("th", title) for title in ("setting", "value", "default, where it differs")))
    rows = []
    for name, value in config.items():
        default = plain(defaults[name]) if name in defaults else "not known to this version"
        is_changed = plain(value) != default
        cells = element("th", name), element("td", plain(value)), element("td", default if is_changed else "")
        rows.append(element("tr", *cells, **({"class_": "changed"} if is_changed else {})))
    return _table(head, *rows)


def _pairs(pairs: Iterator[tuple[str, str]]) -> Element:
    return _table(*(element("tr", element("th", name), element("td", value)) for name, value in pairs))


def _table(*rows: Element, numbers: bool = False) -> Element:
    table = element("table", element("tbody", *rows), **({"class_": "numbers"} if numbers else {}))
    return element("div", table, class_="scroll")


def plain(value: Any) -> str:
    """A setting as a person would write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)


def duration(seconds: float) -> str:
    """In the two largest units that matter."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _time(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
