"""What a newcomer does on the page, in Chromium: each test is one way through it."""

import csv
import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.page.actions import CAPTIONED, FAILED, captioned, choose, drop, light, saved
from tests.page.conftest import Open, photo_files, watched
from tests.service import pictures
from tests.service.conftest import Program, running

pytestmark = pytest.mark.slow

MANY = 100
JPEG = {"content-type": "image/jpeg"}


def test_the_first_caption_of_a_drop_comes_at_once(served: Program, visit: Open, tmp_path: Path) -> None:
    files = photo_files(tmp_path / "photos", 60)
    for _ in range(3):
        began = time.monotonic()
        httpx2.post(f"{served.url}/caption", content=files[0].read_bytes(), headers=JPEG)
        alone_ms = 1000 * (time.monotonic() - began)
    page = visit(served.url)
    expect(page.locator("#state")).to_have_text("ready")
    drop(page, files)
    captioned(page, 60)
    first_ms = page.evaluate("window.firstAfter")
    assert first_ms < 1500 + alone_ms, "300 where nothing else runs"


def test_fifty_photos_and_a_bad_one_are_captioned_and_refused(served: Program, visit: Open, tmp_path: Path) -> None:
    page = visit(served.url)
    choose(page, photo_files(tmp_path / "photos", 49, broken=1))
    captioned(page, 49, failed=1)
    expect(page.locator("#progress-text")).to_have_text("49 of 50 captioned, 1 refused")
    expect(page.locator(f"{FAILED} p.trouble")).to_have_text("This photo is damaged: it could not be read to its end.")
    expect(page.locator(f"{FAILED} .file")).to_contain_text("broken")
    asked = httpx2.post(f"{served.url}/caption", content=pictures.jpeg(0), headers=JPEG).json()
    expect(page.locator(CAPTIONED).first.locator(".caption")).to_have_text(asked["caption"])
    expect(page.locator(".picture img")).to_have_count(49, timeout=20_000)
    expect(page.locator("#announcer")).to_have_text("49 of 50 captioned, 1 refused")


def test_what_is_no_photo_is_told_in_plain_words(served: Program, visit: Open, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a photo")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(pictures.bomb())
    page = visit(served.url)
    choose(page, [tmp_path / name for name in ("notes.txt", "empty.jpg", "bomb.png")])
    captioned(page, 0, failed=3)
    told = page.locator("p.trouble:visible").all_inner_texts()
    assert told == [
        "This is not a photo, or of a type that is not read.",
        "This file is empty.",
        "This photo is too large for the service.",
    ]


def test_samples_have_captions_candidates_and_a_live_panel(served: Program, visit: Open) -> None:
    page = visit(served.url)
    page.click("#samples")
    captioned(page, 3)
    expect(page.locator(".caption").first).to_contain_text("dog")
    expect(page.locator(".others ol").first.locator("li")).to_have_count(2)
    assert re.fullmatch(r"\d+ % sure of a word", page.locator(".sure-text").first.inner_text())
    model = httpx2.get(f"{served.url}/model").json()
    expect(page.locator("#model-version")).to_have_text(model["version"])
    expect(page.locator("#licence")).to_contain_text(model["licence"])
    expect(page.locator("#queue")).to_have_text(re.compile(r"\d+ of 128"))
    expect(page.locator("#latency")).to_have_text(re.compile(r"\d+ ms"))


def test_settings_reach_the_service(served: Program, visit: Open, tmp_path: Path) -> None:
    page = visit(served.url)
    page.select_option("#beam-size", "2")
    page.select_option("#candidates", "5")
    page.fill("#max-length", "3")
    with page.expect_request("**/caption?*") as asked:
        choose(page, photo_files(tmp_path / "photos", 1))
    assert asked.value.url.endswith("caption?n=2&beam_size=2&max_length=3&explain=true")
    captioned(page, 1)
    assert len(page.locator(".caption").inner_text().split()) <= 3


def test_the_attention_view_steps_through_the_words_over_the_whole_photo(
    served: Program, visit: Open, tmp_path: Path
) -> None:
    photo = tmp_path / "wide.jpg"
    photo.write_bytes(pictures.encoded(Image.new("RGB", (900, 300), (200, 200, 200))))
    page = visit(served.url)
    choose(page, [photo])
    captioned(page, 1)
    page.click(".look-button")
    canvas = page.locator("#look-canvas")
    expect(canvas).to_have_js_property("width", 1200)
    expect(canvas).to_have_js_property("height", 400)
    asked = httpx2.post(f"{served.url}/caption?explain=true&n=3", content=photo.read_bytes(), headers=JPEG).json()
    words = asked["candidates"][0]["words"]
    for i, word in enumerate(words):
        expect(page.locator(".choice:has(:checked) span")).to_have_text(word["word"])
        rows = word["attention"]
        brightness = light(page, len(rows), len(rows[0]))
        most = max(brightness, key=lambda cell: rows[cell[0]][cell[1]])
        least = min(brightness, key=lambda cell: rows[cell[0]][cell[1]])
        assert brightness[most] > brightness[least] + 60
        if i + 1 < len(words):
            page.keyboard.press("ArrowRight")
    name = page.locator("#look-canvas").get_attribute("aria-label")
    assert name == f"The photo, lit where the model looked for “{words[-1]['word']}”"
    assert saved(page, "#look-save").startswith(b"\x89PNG")
    page.keyboard.press("Escape")
    expect(page.locator(".look-button")).to_be_focused()


def test_hovering_a_word_lights_its_photo(served: Program, visit: Open) -> None:
    page = visit(served.url)
    page.click("#samples")
    captioned(page, 3)
    expect(page.locator(".picture img")).to_have_count(3)
    page.hover(".word >> nth=1")
    expect(page.locator(".picture .lit")).to_have_count(1)
    page.mouse.move(5, 5)
    expect(page.locator(".picture .lit")).to_have_count(0)


def test_csv_and_json_hold_what_is_seen_and_no_formula(served: Program, visit: Open, tmp_path: Path) -> None:
    names = ["=HYPERLINK(1).jpg", 'quote",comma.jpg', "plain.jpg"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(pictures.jpeg(number))
    (tmp_path / "broken.jpg").write_bytes(pictures.truncated_jpeg())
    page = visit(served.url)
    choose(page, [tmp_path / name for name in (*names, "broken.jpg")])
    captioned(page, 3, failed=1)
    second = page.locator(".photo").nth(1)
    second.locator(".edit-button").click()
    second.locator("textarea").fill('+1 "my" caption')
    page.keyboard.press("Enter")
    expect(second.locator(".caption")).to_have_text('+1 "my" caption')
    text = saved(page, "#save-csv").decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["file"] for row in rows] == ["'=HYPERLINK(1).jpg", names[1], "plain.jpg", "broken.jpg"]
    assert (rows[1]["caption"], rows[1]["edited"]) == ('\'+1 "my" caption', "true")
    assert rows[2]["caption"] == page.locator(".caption").nth(2).inner_text()
    assert float(rows[2]["log_probability"]) < 0
    assert (rows[3]["caption"], rows[3]["error"]) == ("", "This photo is damaged: it could not be read to its end.")
    records = json.loads(saved(page, "#save-json"))
    assert [record["file"] for record in records] == [*names, "broken.jpg"]
    assert records[1]["caption"] == '+1 "my" caption'
    assert records[1]["model_caption"]
    assert len(records[0]["candidates"]) == 3


def test_all_of_it_works_from_the_keyboard(served: Program, visit: Open) -> None:
    page = visit(served.url)
    reach(page, "#samples")
    page.keyboard.press("Enter")
    captioned(page, 3)
    reach(page, ".look-button")
    page.keyboard.press("Enter")
    expect(page.locator("#look")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".choice:has(:checked) span")).to_have_text("dog")
    page.keyboard.press("Escape")
    reach(page, ".edit-button")
    page.keyboard.press("Enter")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("my dog")
    page.keyboard.press("Enter")
    expect(page.locator(".caption").first).to_have_text("my dog")
    expect(page.locator(".edit-button").first).to_be_focused()
    reach(page, ".photo:first-child .remove-button", key="Shift+Tab")
    page.keyboard.press("Enter")
    captioned(page, 2)


def reach(page: Page, selector: str, *, key: str = "Tab") -> None:
    target = page.locator(selector).first
    for _ in range(60):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press(key)
    pytest.fail(f"{key} does not lead to {selector}")


@pytest.mark.parametrize("width", [320, 768])
def test_nothing_is_cut_off_on_a_narrow_screen(served: Program, visit: Open, width: int) -> None:
    page = visit(served.url, viewport={"width": width, "height": 640}, has_touch=True)
    page.click("#samples")
    captioned(page, 3)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".look-button").first.click()
    assert page.evaluate("document.getElementById('look').scrollWidth <= document.getElementById('look').clientWidth")
    expect(page.locator("#look-save")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(served: Program, visit: Open, tmp_path: Path, scheme: str) -> None:
    page = visit(served.url, color_scheme=scheme, reduced_motion="reduce")
    axe = Axe()
    assert_accessible(axe, page)
    choose(page, photo_files(tmp_path / "photos", 3, broken=1))
    captioned(page, 3, failed=1)
    page.locator(".others summary").first.click()
    page.locator(".edit-button").last.click()
    assert_accessible(axe, page)
    page.locator(".look-button").first.click()
    expect(page.locator("#look-canvas")).to_have_js_property("width", 1200)
    assert_accessible(axe, page)


def assert_accessible(axe: Axe, page: Page) -> None:
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_key_is_asked_for_once_and_kept_for_the_tab(visit: Open, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("the-key")
    with running(api_keys_file=tmp_path / "keys", admin_port=0) as locked:
        page = visit(locked.url)
        expect(page.locator("#key-dialog")).to_be_visible()
        page.fill("#key", "a wrong one")
        page.keyboard.press("Enter")
        expect(page.locator("#key-trouble")).to_have_text("This key is not known here.")
        choose(page, photo_files(tmp_path / "photos", 3))
        page.fill("#key", "the-key")
        page.keyboard.press("Enter")
        captioned(page, 3)
        page.reload()
        expect(page.locator("#state")).to_have_text("ready")
        page.click("#samples")
        captioned(page, 3)
        expect(page.locator("#queue")).to_have_text(re.compile(r"\d+ ms of wait"))  # metrics are on the other port
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]


def test_many_are_fed_at_the_pace_of_a_small_queue(visit: Open, tmp_path: Path) -> None:
    """Also when the service says "come back" all the time, and while another client wants its caption."""
    files = photo_files(tmp_path / "photos", MANY, broken=5)
    with running(max_queue_size=4) as small, ThreadPoolExecutor(1) as other:
        page = visit(small.url)
        expect(page.locator("#state")).to_have_text("ready")
        with watched(page):
            choose(page, files)
            waits = other.submit(asking, small, 20)
            captioned(page, MANY, failed=5, timeout_s=120)
        assert max(waits.result()) < 5, "2 where nothing else runs"
        assert page.evaluate("window.longest") < 5000


def asking(service: Program, times: int) -> list[float]:
    """Another client, who comes back after a 503, too: how long each caption took, that wait not counted."""
    seconds: list[float] = []
    while len(seconds) < times:
        began = time.monotonic()
        answer = httpx2.post(f"{service.url}/caption", content=pictures.jpeg(9999), headers=JPEG, timeout=30)
        if answer.status_code == 200:
            seconds.append(time.monotonic() - began)
        time.sleep(0.2)
    return seconds
