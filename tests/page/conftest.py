"""The page in Chromium, served by `python -m service` with the default model; whatever it complains of is a failure."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.service import pictures
from tests.service.conftest import Program, running

BROWSER = shutil.which("chromium")
REFUSED = "Failed to load resource: the server responded with a status of"
"""What Chromium itself says of an answer that the page expects."""


@pytest.fixture(scope="session")
def served() -> Iterator[Program]:
    with running() as program:
        yield program


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if BROWSER is None and "CI" not in os.environ:
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page and what was seen on its way."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


Open = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Opens pages; at the end none has complained, broken its policy or asked another host."""
    visits: list[Visit] = []

    def open_page(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        visit = Visit(context.new_page())
        visits.append(visit)
        visit.page.on("console", lambda message: _note(visit, message))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on("request", lambda request: visit.hosts.add(urlsplit(request.url).netloc))
        visit.page.goto(url)
        return visit.page

    yield open_page
    for each in visits:
        host = urlsplit(each.page.url).netloc
        each.page.context.close()
        assert each.complaints == []
        assert each.hosts - {""} == {host}  # pictures in memory have none


def _note(visit: Visit, message: ConsoleMessage) -> None:
    if message.type in ("error", "warning") and not message.text.startswith(REFUSED):
        visit.complaints.append(message.text)


def photo_files(folder: Path, count: int, *, broken: int = 0) -> list[Path]:
    """Drawn photos, all different, with broken ones among them."""
    folder.mkdir(exist_ok=True)
    paths = []
    broken_ones = {1 + number * (count // broken) for number in range(broken)}
    for number in range(count + broken):
        is_broken = number in broken_ones
        path = folder / f"{'broken' if is_broken else 'photo'}-{number:03}.jpg"
        path.write_bytes(pictures.truncated_jpeg(number) if is_broken else pictures.jpeg(number))
        paths.append(path)
    return paths


@contextmanager
def watched(page: Page) -> Iterator[None]:
    """Measures the longest time in which the page did not react, into `window.longest`."""
    page.evaluate(
        """() => {
            window.longest = 0;
            let before = performance.now();
            window.watcher = setInterval(() => {
                const now = performance.now();
                window.longest = Math.max(window.longest, now - before);
                before = now;
            }, 20);
        }"""
    )
    yield
    page.evaluate("() => clearInterval(window.watcher)")
