"""What the model looked at, over HTTP: grids placed on the picture, PNG overlays, and who cannot tell."""

import io
import json
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from starlette.testclient import TestClient

from shared.image import read_image, upright_size
from tests.service import pictures
from tests.service.conftest import serving
from tests.service.engines import TroubledEngine
from tests.service.test_routes import JPEG, error_of, send
from trainer.drawing import COLOURS


@pytest.fixture(scope="module")
def blind(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service whose model says that it looks once, at the whole picture."""
    folder = tmp_path_factory.mktemp("blind") / "bundle"
    shutil.copytree(tiny_bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["architecture"]["decoder"] = "show_tell"
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with serving(model=folder, precision="fp32") as client:
        yield client


def explained(client: TestClient, picture: bytes) -> dict[str, Any]:
    response = send(client, picture, query="?explain=true")
    assert response.status_code == 200, response.text
    return response.json()


def overlay(client: TestClient, picture: bytes) -> Image.Image:
    response = client.post("/caption/explain", content=picture, headers=JPEG)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-model-version"]
    image = Image.open(io.BytesIO(response.content))
    image.load()
    return image


def centre(weights: list[list[float]], grid: dict[str, Any]) -> tuple[float, float]:
    """Of a word's attention, in pixels of the picture."""
    shares = np.array(weights)
    assert shares.shape == (grid["rows"], grid["columns"])
    assert shares.sum() == pytest.approx(1, abs=0.001)
    width, height = grid["right"] - grid["left"], grid["bottom"] - grid["top"]
    x = grid["left"] + width * (np.arange(grid["columns"]) + 0.5) / grid["columns"]
    y = grid["top"] + height * (np.arange(grid["rows"]) + 0.5) / grid["rows"]
    return float(shares.sum(0) @ x), float(shares.sum(1) @ y)


def test_grids_are_placed_on_the_upright_picture(client: TestClient) -> None:
    plain = explained(client, pictures.encoded(pictures.scene(size=(300, 200))))
    grid = plain["attention_grid"]
    assert {key: grid[key] for key in grid if key not in ("rows", "columns")} == {
        "width": 300,
        "height": 200,
        "left": 0,
        "top": 0,
        "right": 300,
        "bottom": 200,
    }
    for word in plain["candidates"][0]["words"]:
        centre(word["attention"], grid)
    turned = explained(client, pictures.turned_by_exif())["attention_grid"]
    assert (turned["width"], turned["height"]) == pictures.scene().size


@pytest.mark.parametrize(
    "draw",
    [
        pictures.jpeg,
        pictures.with_alpha,
        pictures.palette,
        pictures.animated_gif,
        pictures.turned_by_exif,
        pictures.sixteen_bit_grey,
        lambda: pictures.encoded(pictures.scene(size=(1001, 333))),
        lambda: pictures.encoded(pictures.scene(size=(333, 1001)), exif=_exif(8)),
        lambda: pictures.encoded(pictures.scene(), "TIFF", exif=_exif(6)),
        lambda: pictures.encoded(pictures.scene(), "AVIF", exif=_exif(5)),
        lambda: pictures.encoded(pictures.scene(), "WEBP", exif=_exif(7)),
    ],
)
def test_the_upright_size_is_that_of_the_picture_read_whole(draw: Callable[[], bytes]) -> None:
    data = draw()
    assert upright_size(data) == read_image(data).size


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_attention_is_where_the_thing_is(client: TestClient) -> None:
    """At the first word, when nothing is told yet; in wide pictures, as pixels of them."""
    places, found = [], []
    for seed in range(40):
        dice = random.Random(seed)
        x, y = 0.2 + 0.6 * dice.random(), 0.2 + 0.6 * dice.random()
        picture = Image.new("RGB", (256, 128), "white")
        box = tuple(side * (at + sign * 0.18) for sign in (-1, 1) for side, at in ((256, x), (128, y)))
        ImageDraw.Draw(picture).ellipse(box, dice.choice(list(COLOURS.values())))
        answer = explained(client, pictures.encoded(picture, quality=95))
        places.append((256 * x, 128 * y))
        found.append(centre(answer["candidates"][0]["words"][0]["attention"], answer["attention_grid"]))
    for axis in (0, 1):
        assert np.corrcoef([p[axis] for p in places], [f[axis] for f in found])[0, 1] > 0.7


@pytest.mark.slow
def test_the_default_model_looks_at_the_photo_and_not_beside_it(default_bundle: Path, real_data: Path) -> None:
    photos = sorted((real_data / "flickr8k" / "val").glob("*.jpg"))[::100]
    with serving(model=default_bundle) as client:
        for photo in photos:
            left, right = (_centre_beside_nothing(client, photo, x) for x in (40, 360))
            assert left < 0.42 * 600, photo
            assert right > 0.56 * 600, photo


def _centre_beside_nothing(client: TestClient, photo: Path, x: int) -> float:
    """Across, of all words' attention to a photo that lies on one half of a grey picture."""
    picture = Image.new("RGB", (600, 300), "grey")
    picture.paste(ImageOps.fit(read_image(photo.read_bytes()), (200, 200)), (x, 50))
    answer = explained(client, pictures.encoded(picture, "PNG"))
    words = answer["candidates"][0]["words"]
    return float(np.mean([centre(word["attention"], answer["attention_grid"])[0] for word in words]))


def test_the_overlay_is_a_png_with_a_panel_for_the_photo_and_for_every_word(client: TestClient) -> None:
    picture = pictures.jpeg()
    words = explained(client, picture)["candidates"][0]["words"]
    sheet = overlay(client, picture)
    rows = -(-(1 + len(words)) // 5)
    assert sheet.height == 16 + 44 + rows * (192 + 28 + 16)
    assert sheet.width == 16 + 5 * (256 + 16)
    first = sheet.crop((16, 60, 16 + 256, 60 + 192)).resize((160, 120))
    original = Image.open(io.BytesIO(picture))
    assert np.abs(np.asarray(first, float) - np.asarray(original, float)).mean() < 6


def test_any_picture_gets_an_overlay_of_a_bounded_size(client: TestClient) -> None:
    for size in ((1, 1), (3000, 2), (2, 3000), (4000, 3000)):
        sheet = overlay(client, pictures.encoded(Image.new("RGB", size, "teal"), "PNG"))
        assert sheet.width <= 16 + 5 * 272
        assert sheet.height <= 60 + 11 * 300


def test_the_overlay_shows_a_turned_picture_upright(client: TestClient) -> None:
    upright = overlay(client, pictures.encoded(pictures.scene(), "PNG"))
    assert np.array_equal(np.asarray(overlay(client, pictures.turned_by_exif())), np.asarray(upright))


def test_options_reach_the_overlay(client: TestClient) -> None:
    sheet = client.post("/caption/explain?max_length=1&beam_size=1", content=pictures.jpeg(), headers=JPEG)
    assert Image.open(io.BytesIO(sheet.content)).width == 16 + 2 * 272
    assert error_of(client.post("/caption/explain?n=2", content=pictures.jpeg(), headers=JPEG)) == (
        400,
        "bad_parameter",
    )


def test_what_is_no_picture_gets_no_overlay(client: TestClient) -> None:
    for body, expected in (
        (b"", (400, "no_image")),
        (b"this is no picture", (415, "unsupported_image")),
        (pictures.truncated_jpeg(), (422, "undecodable_image")),
        (pictures.bomb(), (413, "too_large")),
    ):
        assert error_of(client.post("/caption/explain", content=body, headers=JPEG)) == expected


def test_a_model_without_attention_explains_nothing_and_captions_all_the_same(blind: TestClient) -> None:
    asked = send(blind, pictures.jpeg(), query="?explain=true")
    drawn = blind.post("/caption/explain", content=pictures.jpeg(), headers=JPEG)
    for response in (asked, drawn):
        assert error_of(response) == (400, "no_attention")
        assert "looks at the whole picture once" in response.json()["error"]["message"]
    assert send(blind, pictures.jpeg()).status_code == 200
    assert blind.get("/model").json()["has_attention"] is False


def test_a_model_with_attention_says_so(client: TestClient) -> None:
    assert client.get("/model").json()["has_attention"] is True


@pytest.mark.parametrize("path", ["/caption?explain=true", "/caption/explain"])
def test_the_deadline_holds_for_explanations(tiny_bundle: Path, engine: TroubledEngine, path: str) -> None:
    with serving(model=tiny_bundle) as client:
        response = client.post(path, content=pictures.jpeg(), headers={**JPEG, "X-Request-Timeout-Ms": "80"})
        engine.gate.set()
    assert error_of(response) == (504, "deadline_exceeded")


def test_the_deadline_holds_while_the_overlay_is_drawn(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()

    def drawing(*arguments: object, **options: object) -> bytes:
        leave.wait(20)
        return b""

    monkeypatch.setattr("service.explain_routes.draw_overlay", drawing)
    response = client.post("/caption/explain", content=pictures.jpeg(), headers={**JPEG, "X-Request-Timeout-Ms": "700"})
    leave.set()
    assert error_of(response) == (504, "deadline_exceeded")


def test_overlays_count_against_admission(tiny_bundle: Path, engine: TroubledEngine) -> None:
    with serving(model=tiny_bundle, max_queue_bytes=1) as client:
        response = client.post("/caption/explain", content=pictures.jpeg(), headers=JPEG)
        engine.gate.set()
    assert error_of(response) == (503, "queue_full")
    assert response.headers["retry-after"]
