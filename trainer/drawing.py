"""Pictures that the project draws itself, with captions: a data set that anyone has at once.

One to three coloured shapes stand beside or above each other. Every caption is true of its picture, and left and right
matter, so a model has to look to learn it; there are forty words in all, so a small one learns it in minutes.
"""

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 210),
    "yellow": (235, 205, 40),
    "purple": (140, 50, 170),
}
BACKGROUNDS = {"white": 242, "grey": 135, "black": 18}
# Each shape by its number of corners; every second corner of a star is nearer to the centre.
CORNERS = {"circle": 64, "triangle": 3, "square": 4, "star": 10}
PLACES = {
    "on the left": (0.22, 0.5),
    "on the right": (0.78, 0.5),
    "at the top": (0.5, 0.22),
    "at the bottom": (0.5, 0.78),
    "in the middle": (0.5, 0.5),
}
CAPTIONS_PER_IMAGE = 5
COLOUR_JITTER = 12
SUPERSAMPLING = 4


@dataclass(frozen=True)
class Thing:
    """A shape. Its centre and radius are fractions of the side of the picture."""

    phrase: str
    shape: str
    colour: str
    x: float
    y: float
    radius: float


def draw_scene(rng: random.Random, size: int) -> tuple[Image.Image, list[str]]:
    """A picture of `size` x `size` and five different captions."""
    background = rng.choice(list(BACKGROUNDS))
    things, captions = rng.choice((_one_thing, _two_things, _two_things, _three_things))(rng, background)
    return _draw(rng, background, things, size), rng.sample(captions, CAPTIONS_PER_IMAGE)


def _one_thing(rng: random.Random, background: str) -> tuple[list[Thing], list[str]]:
    place = rng.choice(list(PLACES))
    things = _things(rng, [PLACES[place]])
    the_thing = things[0].phrase
    return things, [
        f"{the_thing} {place}",
        f"there is {the_thing} {place}",
        f"{the_thing} on a {background} background",
        f"a picture of {the_thing}",
        f"one {the_thing.removeprefix('a ')} {place}",
    ]


def _two_things(rng: random.Random, background: str) -> tuple[list[Thing], list[str]]:
    across, drift = rng.random() < 0.5, rng.uniform(-0.12, 0.12)
    centres = [(0.27, 0.5 + drift), (0.73, 0.5 - drift)]
    things = _things(rng, centres if across else [(y, x) for x, y in centres])
    first, second = (thing.phrase for thing in things)
    before, after = ("to the left of", "to the right of") if across else ("above", "below")
    return things, [
        f"{first} {before} {second}",
        f"{second} {after} {first}",
        f"there is {first} {before} {second}",
        f"{first} {before} {second} on a {background} background",
        f"{first} and {second} on a {background} background",
        f"a picture of {first} and {second}",
    ]


def _three_things(rng: random.Random, background: str) -> tuple[list[Thing], list[str]]:
    across = rng.random() < 0.5
    things = _things(rng, [(place, 0.5) if across else (0.5, place) for place in (0.18, 0.5, 0.82)])
    first, middle, last = (thing.phrase for thing in things)
    direction, line = ("from left to right", "row") if across else ("from top to bottom", "column")
    return things, [
        f"{middle} between {first} and {last}",
        f"there is {middle} between {first} and {last}",
        f"{first}, {middle} and {last} {direction}",
        f"{direction} {first}, {middle} and {last}",
        f"{first}, {middle} and {last} in a {line}",
        f"three shapes in a {line} on a {background} background",
    ]


def _things(rng: random.Random, centres: list[tuple[float, float]]) -> list[Thing]:
    """Of different colours, so that every phrase means one thing. Three leave no room for big and small."""
    things = []
    for colour, (x, y) in zip(rng.sample(list(COLOURS), len(centres)), centres, strict=True):
        shape, is_big = rng.choice(list(CORNERS)), rng.random() < 0.5
        words, radius = ("big " if is_big else "small ", 0.18 if is_big else 0.1) if len(centres) < 3 else ("", 0.115)
        x, y, radius = x + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02), radius + rng.uniform(-0.01, 0.01)
        things.append(Thing(f"a {words}{colour} {shape}", shape, colour, x, y, radius))
    return things


def _draw(rng: random.Random, background: str, things: list[Thing], size: int) -> Image.Image:
    side = size * SUPERSAMPLING
    shade = BACKGROUNDS[background] + rng.randint(-COLOUR_JITTER, COLOUR_JITTER)
    image = Image.new("RGB", (side, side), (shade, shade, shade))
    draw = ImageDraw.Draw(image)
    for thing in things:
        fill = tuple(channel + rng.randint(-COLOUR_JITTER, COLOUR_JITTER) for channel in COLOURS[thing.colour])
        draw.polygon([(x * side, y * side) for x, y in _corners(thing)], fill)
    return image.reduce(SUPERSAMPLING)


def _corners(thing: Thing) -> Iterator[tuple[float, float]]:
    count = CORNERS[thing.shape]
    start = math.pi / 4 if thing.shape == "square" else -math.pi / 2
    for index in range(count):
        distance = thing.radius * (0.45 if thing.shape == "star" and index % 2 else 1)
        angle = start + index * 2 * math.pi / count
        yield thing.x + distance * math.cos(angle), thing.y + distance * math.sin(angle)


def write_drawn_dataset(root: Path, splits: Mapping[str, int], *, size: int = 96, seed: int = 0) -> None:
    """In the layout of COCO captions. `splits` is how many pictures each has; the same seed gives the same bytes."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    ids = itertools.count(1)
    for split, count in splits.items():
        (root / split).mkdir(exist_ok=True)
        content: dict[str, Any] = {"info": {"seed": seed}, "licenses": [], "images": [], "annotations": []}
        for index in range(count):
            image, captions = draw_scene(random.Random(f"{seed}/{split}/{index}"), size)
            file_name = f"{(image_id := next(ids)):06d}.jpg"
            image.save(root / split / file_name, quality=90)
            content["images"].append({"id": image_id, "file_name": file_name, "width": size, "height": size})
            for annotation_id, caption in enumerate(captions, start=image_id * CAPTIONS_PER_IMAGE):
                content["annotations"].append({"id": annotation_id, "image_id": image_id, "caption": caption})
        (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))
