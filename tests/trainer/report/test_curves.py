import itertools
import math
import re
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.report.curves import BOTTOM, LEFT, RIGHT, TOP, Curve, chart, curves, draw_curves, show, ticks
from trainer.report.run_log import Line

LINES = [
    {"epoch": 1, "stage": "cross_entropy", "loss": 4.0, "val": {"CIDEr-D": 30.0, "BLEU-1": 60.0}, "seconds": 9.0},
    {
        "epoch": 2,
        "stage": "cross_entropy",
        "loss": 3.0,
        "val": {"CIDEr-D": 40.0, "BLEU-1": 61.0},
        "learning_rate": 1e-4,
    },
    {
        "epoch": 3,
        "stage": "self_critical",
        "loss": -0.1,
        "val": {"CIDEr-D": 45.0},
        "reward": 0.4,
        "health": {"distinct_words": 300},
        "gradient_norm": 2.0,
    },
]


def points_of(figure: Element) -> list[tuple[float, float]]:
    line = figure.find(".//polyline")
    assert line is not None
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]


def texts_of(figure: Element) -> list[str]:
    return [text.text or "" for text in figure.iter("text")]


def test_each_figure_is_a_curve_of_the_epochs_that_have_it() -> None:
    found = dict(curves(LINES))
    assert found["Validation CIDEr-D"] == ((1, 30.0), (2, 40.0), (3, 45.0))
    assert found["Learning rate"] == ((2, 1e-4),)
    assert found["Reward"] == ((3, 0.4),)
    assert found["Distinct words"] == ((3, 300.0),)
    assert found["Gradient norm"] == ((3, 2.0),), "what the report does not know is drawn as well"
    assert not {"Epoch", "Seconds", "Val, bleu-1"} & set(found)


def test_the_losses_of_two_stages_do_not_share_an_axis() -> None:
    found = dict(curves(LINES))
    assert found["Training loss"] == ((1, 4.0), (2, 3.0))
    assert found["Self-critical loss"] == ((3, -0.1),)


def test_unique_captions_are_one_curve_wherever_they_are_logged() -> None:
    lines: list[Line] = [{"epoch": 1, "unique_captions": 5}, {"epoch": 2, "health": {"unique_captions": 7}}]
    assert curves(lines) == [Curve("Unique captions", ((1, 5.0), (2, 7.0)))]


def test_what_is_not_finite_leaves_a_gap() -> None:
    lines = [{"epoch": n, "loss": loss} for n, loss in enumerate((3.0, math.nan, math.inf, 2.0))]
    assert curves(lines) == [Curve("Training loss", ((0, 3.0), (3, 2.0)))]
    assert curves([{"epoch": 1, "loss": math.nan}]) == []


def test_a_curve_goes_right_with_the_epochs_and_up_with_the_values() -> None:
    figure = chart(Curve("Reward", ((1, 0.0), (2, 5.0), (3, 10.0))), x_range=(1, 3), marks={}, best=None)
    assert points_of(figure) == [(LEFT, BOTTOM), ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2), (RIGHT, TOP)]
    assert texts_of(figure) == ["0", "2.5", "5.0", "7.5", "10.0", "1", "2", "3", "epoch"]


def test_a_run_of_one_epoch_has_a_dot_in_the_middle() -> None:
    figure = chart(Curve("Reward", ((4, 0.5),)), x_range=(4, 4), marks={}, best=4)
    assert [x for x, _ in points_of(figure)] == [(LEFT + RIGHT) / 2]
    assert "4" in texts_of(figure)
    assert [circle.get("class") for circle in figure.iter("circle")] == ["best"]


def test_the_best_epoch_and_the_change_of_stage_are_marked() -> None:
    figure = draw_curves(LINES, LINES[1])[0]
    best = [circle for circle in figure.iter("circle") if circle.get("class") == "best"]
    assert [circle.findtext("title") for circle in best] == ["epoch 2: 40"]
    (mark,) = [line for line in figure.iter("line") if line.get("class") == "mark"]
    assert float(mark.attrib["x1"]) == pytest.approx(LEFT + 0.75 * (RIGHT - LEFT)), "between the second and the third"
    assert "self-critical" in texts_of(figure)


def test_labels_of_stages_close_to_each_other_stand_in_two_rows() -> None:
    stages = ["cross_entropy"] * 14 + ["fine_tune"] * 2 + ["self_critical"] * 14
    lines = [{"epoch": n, "stage": stage, "loss": n} for n, stage in enumerate(stages)]
    labels = {text.text: text for text in draw_curves(lines, {})[0].iter("text")}
    assert labels["fine-tune"].attrib["y"] != labels["self-critical"].attrib["y"]


def test_a_label_at_the_right_edge_turns_to_the_left() -> None:
    lines = [{"epoch": n, "stage": "self_critical" if n > 28 else "fine_tune", "loss": n} for n in range(31)]
    label = next(t for t in draw_curves(lines, {})[1].iter("text") if t.text == "self-critical")
    assert label.attrib["text-anchor"] == "end"


def test_no_lines_draw_nothing() -> None:
    assert draw_curves([], {}) == []


def test_many_points_have_no_dots_but_the_best() -> None:
    lines = [{"epoch": n, "loss": 1 / n} for n in range(1, 200)]
    figure = draw_curves(lines, lines[-1])[0]
    assert len(list(figure.iter("circle"))) == 1
    epochs = [text for text in texts_of(figure) if re.fullmatch(r"\d+", text)]
    assert 3 <= len(epochs) <= 12


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_ticks_are_few_and_even_and_enclose_the_values(one: float, other: float) -> None:
    low, high = sorted((one, other))
    levels = ticks(low, high)
    step = levels[1] - levels[0]
    assert 2 <= len(levels) <= 8
    assert levels[0] <= low + 1e-6 * step
    assert levels[-1] >= high - 1e-6 * step
    assert all(b - a == pytest.approx(step) for a, b in itertools.pairwise(levels))


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12), min_size=1, max_size=9)
)
def test_every_curve_stays_within_its_plot(values: list[float]) -> None:
    points = tuple(enumerate(values))
    figure = chart(Curve("Loss", points), x_range=(0, max(1, len(values) - 1)), marks={}, best=None)
    for x, y in points_of(figure):
        assert LEFT <= x <= RIGHT
        assert TOP - 0.1 <= y <= BOTTOM + 0.1


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3.0, "3"), (54.327, "54.3"), (0.4899, "0.490"), (8e-5, "8e-5"), (12345.6, "12346"), (-3e7 - 0.5, "-3e7")],
)
def test_figures_are_shown_with_the_digits_that_count(value: float, shown: str) -> None:
    assert show(value) == shown


def test_what_is_no_number_is_shown_as_such() -> None:
    assert [show(value) for value in (math.nan, math.inf)] == ["nan", "inf"]
