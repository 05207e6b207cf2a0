"""A picture of the training captions: how long they are, and how many words cover how much of what they say."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from trainer.doctor.findings import Diagnosis

SIZE, MARGIN_LEFT, MARGIN_TOP, PANEL = (1120, 440), 80, 60, (440, 310)
GAP = SIZE[0] // 2
INK, GRID, BARS, MARK = "#202020", "#dddddd", "#4878a8", "#c04020"
FONT_SIZE = 15
LONGEST = 60
"""Words; longer captions are in the last bar."""

Tick = tuple[float, str]
"""Where on an axis, from 0 to 1, and what is written there."""


@dataclass(frozen=True)
class Panel:
    """A rectangle to draw in, with the origin of both axes, 0 to 1, at its bottom left."""

    draw: ImageDraw.ImageDraw
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    left: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.left + x * PANEL[0], MARGIN_TOP + (1 - y) * PANEL[1]

    def write(self, place: tuple[float, float], text: str, anchor: str, colour: str = INK) -> None:
        self.draw.text(place, text, colour, self.font, anchor=anchor, align="right" if anchor[0] == "r" else "left")


def draw_captions(diagnosis: Diagnosis) -> Image.Image:
    image = Image.new("RGB", SIZE, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT_SIZE)
    _draw_lengths(Panel(draw, font, MARGIN_LEFT), diagnosis)
    _draw_coverage(Panel(draw, font, MARGIN_LEFT + GAP), diagnosis)
    return image


def _draw_lengths(panel: Panel, diagnosis: Diagnosis) -> None:
    counts = diagnosis.captions_by_length
    last = min(LONGEST, max([diagnosis.max_words, *counts])) + 1
    bars = [counts[length] for length in range(last - 1)]
    bars.append(counts.total() - sum(bars))
    step, highest = _nice_step(max([1, *bars]))
    x_ticks = [((length + 0.5) / last, str(length)) for length in range(0, last, 5)]
    y_ticks = [(value / highest, f"{value:,}") for value in range(0, highest + 1, step)]
    _frame(panel, "Caption lengths", "words per caption", "captions", x_ticks, y_ticks)
    for length, count in enumerate(bars):
        if count:
            left, top = panel.at((length + 0.1) / last, count / highest)
            right, bottom = panel.at((length + 0.9) / last, 0)
            panel.draw.rectangle((left, min(top, bottom - 1), right, bottom), BARS)
    cut = (diagnosis.max_words + 1) / last
    if cut < 1:
        panel.draw.line([panel.at(cut, 0), panel.at(cut, 1)], MARK, 2)
        panel.write(panel.at(cut + 0.015, 0.97), f"cut at {diagnosis.max_words}", "lt", MARK)


def _draw_coverage(panel: Panel, diagnosis: Diagnosis) -> None:
    counts = sorted(diagnosis.words.values(), reverse=True)
    total, decades = max(1, sum(counts)), max(1, math.ceil(math.log10(max(1, len(counts)))))
    x_ticks = [(power / decades, f"{10**power:,}") for power in range(decades + 1)]
    y_ticks = [(percent / 100, f"{percent}%") for percent in range(0, 101, 20)]
    _frame(panel, "Vocabulary", "words, the most frequent first", "share of all that is said", x_ticks, y_ticks)
    covered = [said / total for said in itertools.accumulate(counts)]
    curve = [panel.at(math.log10(words) / decades, share) for words, share in enumerate(covered, start=1)]
    if len(curve) > 1:
        panel.draw.line(curve, BARS, 3)
    if size := diagnosis.vocabulary_size:
        x = math.log10(size) / decades
        panel.draw.line([panel.at(x, 0), panel.at(x, 1)], MARK, 2)
        text = f"said {diagnosis.min_count} times or more:\n{size:,} words, {covered[size - 1]:.1%}"
        is_left = x < 0.5
        panel.write(panel.at(x + (0.015 if is_left else -0.015), 0.12), text, "lm" if is_left else "rm", MARK)


def _frame(
    panel: Panel, title: str, x_label: str, y_label: str, x_ticks: Iterable[Tick], y_ticks: Iterable[Tick]
) -> None:
    """Title, grid, axes and what is written along them."""
    for y, text in y_ticks:
        panel.draw.line([panel.at(0, y), panel.at(1, y)], GRID)
        panel.write((panel.left - 8, panel.at(0, y)[1]), text, "rm")
    for x, text in x_ticks:
        place, bottom = panel.at(x, 0)
        panel.draw.line([(place, bottom), (place, bottom + 5)], INK)
        panel.write((place, bottom + 9), text, "mt")
    panel.draw.line([panel.at(0, 1), panel.at(0, 0), panel.at(1, 0)], INK)
    panel.write((panel.left - 8, MARGIN_TOP - 18), y_label, "lb")
    panel.write((panel.at(0.5, 0)[0], panel.at(0, 0)[1] + 34), x_label, "mt")
    panel.write((panel.at(0.5, 0)[0], MARGIN_TOP - 52), title, "mt")


def _nice_step(most: int) -> tuple[int, int]:
    """A round step that is at most six times up to `most`, and the multiple of it that the axis ends at."""
    steps = (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
    step = next(step for step in steps if 6 * step >= most)
    return step, -(-most // step) * step
