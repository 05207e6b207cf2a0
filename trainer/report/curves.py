"""The curves of a run as small SVG charts: whatever figures its log has, the known ones first and by their names."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from trainer.report.markup import element
from trainer.report.run_log import Line, figures, positions, stage_changes

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 52, 350, 24, 188
"""Of the plot within the picture; the axes' labels stand outside."""
MOST_DOTS = 60
SELF_CRITICAL = "self_critical"
TITLES = {
    "val/CIDEr-D": "Validation CIDEr-D",
    "val/BLEU-4": "Validation BLEU-4",
    "loss": "Training loss",
    "self-critical loss": "Self-critical loss",
    "reward": "Reward",
    "learning_rate": "Learning rate",
    "images_per_second": "Images per second",
    "unique_captions": "Unique captions",
    "distinct_words": "Distinct words",
    "dangling_endings": "Dangling endings",
    "mean_length": "Mean length, words",
}
LEFT_TO_THE_TABLE = {"epoch", "seconds", "train_seconds"}


class Curve(NamedTuple):
    """One figure over the epochs."""

    title: str
    points: tuple[tuple[int, float], ...]


def curves(lines: Sequence[Line]) -> list[Curve]:
    """Those with at least one finite point; every scalar of the log but clocks and the lesser validation scores."""
    series: dict[str, list[tuple[int, float]]] = {name: [] for name in TITLES}
    for x, line in zip(positions(lines), lines, strict=True):
        for name, value in plotted(line).items():
            if math.isfinite(value):
                series.setdefault(name, []).append((x, value))
    return [Curve(TITLES.get(name, _words(name)), tuple(points)) for name, points in series.items() if points]


def plotted(line: Line) -> dict[str, float]:
    """The figures of a line that are drawn; health figures go by their own names, wherever they stand."""
    found: dict[str, float] = {}
    for key, value in figures(line).items():
        name = key.removeprefix("health/")
        if name == "loss" and line.get("stage") == SELF_CRITICAL:
            name = "self-critical loss"  # on another scale, and it may be below zero
        if name not in LEFT_TO_THE_TABLE and (name in TITLES or not name.startswith("val/")):
            found[name] = value
    return found


def _words(name: str) -> str:
    return name.replace("_", " ").replace("/", ", ").capitalize()


def chart(curve: Curve, *, x_range: tuple[int, int], marks: Mapping[float, str], best: int | None) -> Element:
    """A figure with axes. `marks` are vertical lines with their labels; `best` is the epoch with the large dot."""
    values = [value for _, value in curve.points]
    levels = ticks(min(values), max(values))
    scale = _Scale(x_range, (levels[0], levels[-1]))
    label = f"{curve.title}, from {show(values[0])} to {show(values[-1])}"
    drawing = element(
        "svg",
        *_horizontals(levels, scale),
        *_verticals(marks, scale),
        *_epochs(x_range, scale),
        element("polyline", points=" ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in curve.points)),
        *_dots(curve, best, scale),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=label,
    )
    caption = element("figcaption", element("b", curve.title), " ", element("span", f"last {show(values[-1])}"))
    return element("figure", caption, drawing, class_="chart")


class _Scale(NamedTuple):
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, epoch: float) -> float:
        first, last = self.x_range
        return LEFT + (RIGHT - LEFT) * ((epoch - first) / (last - first) if last > first else 0.5)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)


def _horizontals(levels: Sequence[float], scale: _Scale) -> list[Element]:
    drawn = []
    for level in levels:
        y = f"{scale.y(level):.1f}"
        drawn.append(element("line", x1=str(LEFT), x2=str(RIGHT), y1=y, y2=y, class_="grid"))
        drawn.append(_text(_tick_label(level, levels), LEFT - 6, scale.y(level) + 3.5, "end"))
    return drawn


def _epochs(x_range: tuple[int, int], scale: _Scale) -> list[Element]:
    first, last = x_range
    step = max(1, round(_nice((last - first) / 8)))
    shown = range(-(-first // step) * step, last + 1, step)
    labels = [_text(str(epoch), scale.x(epoch), BOTTOM + 14, "middle") for epoch in shown]
    return [*labels, _text("epoch", (LEFT + RIGHT) / 2, HEIGHT - 2, "middle")]


def _verticals(marks: Mapping[float, str], scale: _Scale) -> list[Element]:
    """Labels stand above the plot, in two rows by turns, to the right of their lines where there is room."""
    drawn = []
    for number, (epoch, label) in enumerate(marks.items()):
        x, y = scale.x(epoch), TOP - 15 + 10 * (number % 2)
        top = {"x1": f"{x:.1f}", "y1": f"{y - 8:.1f}"}
        drawn.append(element("line", x2=f"{x:.1f}", y2=str(BOTTOM), class_="mark", **top))
        fits = x + 6 * len(label) < WIDTH
        drawn.append(_text(label, x + (4 if fits else -4), y, "start" if fits else "end"))
    return drawn


def _dots(curve: Curve, best: int | None, scale: _Scale) -> list[Element]:
    """A dot per point that tells its value under the mouse; where there are many, only the best."""
    drawn = []
    for x, y in curve.points:
        if x == best or len(curve.points) <= MOST_DOTS:
            tip = element("title", f"epoch {x}: {show(y)}")
            size = {"r": "4.5", "class_": "best"} if x == best else {"r": "2"}
            drawn.append(element("circle", tip, cx=f"{scale.x(x):.1f}", cy=f"{scale.y(y):.1f}", **size))
    return drawn


def _text(text: str, x: float, y: float, anchor: str) -> Element:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def draw_curves(lines: Sequence[Line], best: Mapping[str, Any]) -> list[Element]:
    """All charts of a log over one axis of epochs, with its stage changes and the best epoch marked."""
    places = positions(lines)
    marks: dict[float, str] = {(places[i - 1] + places[i]) / 2: change for i, change in stage_changes(lines).items()}
    chosen = next((x for x, line in zip(places, lines, strict=True) if line == best), None)
    x_range = (min(places, default=1), max(places, default=1))
    return [chart(curve, x_range=x_range, marks=marks, best=chosen) for curve in curves(lines)]


def ticks(low: float, high: float) -> list[float]:
    """About five round levels that enclose both ends."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.1 * abs(high) or 1.0
        low, high = low - margin, high + margin
    step = _nice((high - low) / 4)
    return [n * step for n in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _nice(step: float) -> float:
    """The least of 1, 2, 2.5, 5 and their tenfolds that is not below `step`."""
    power = 10 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next((nice * power for nice in (1.0, 2.0, 2.5, 5.0, 10.0) if nice * power >= step * (1 - 1e-9)), 10 * power)


def _tick_label(level: float, levels: Sequence[float]) -> str:
    largest, step = max(abs(level) for level in levels), levels[1] - levels[0]
    if level == 0:
        return "0"
    if not 1e-3 <= largest < 1e6:
        return _scientific(level)
    decimals = max(0, math.ceil(-math.log10(step) - 1e-9))
    return f"{level:.{decimals + (round(step * 10**decimals, 6) % 1 > 0)}f}"


def show(value: float) -> str:
    """A figure as tables show it: whole numbers as such, others with three or four digits that count."""
    if value.is_integer() and abs(value) < 1e15:
        return f"{value:.0f}"
    if not 1e-3 <= abs(value) < 1e6:
        return _scientific(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _scientific(value: float) -> str:
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
